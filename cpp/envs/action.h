// One simulation's action, in the precision in which the caller gave it.
#pragma once

#include <algorithm>

#include "envs/numpy_math.h"

namespace tom::envs {

class Action {
 public:
  Action(const float* values, int size) : single_(values), size_(size) {}
  Action(const double* values, int size) : double_(values), size_(size) {}

  // Returns the place after the last number written.
  template <typename T>
  T* write_to(T* out) const {
    return single_ ? std::copy_n(single_, size_, out) : std::copy_n(double_, size_, out);
  }

  // weight * np.sum(np.square(action)). Under NumPy 2 a Python float times a float32 array is
  // float32: the cost of a float32 action is rounded to float32 at every step.
  double square_cost(double weight) const {
    if (single_) return static_cast<float>(weight) * square_sum(single_, size_);
    return weight * square_sum(double_, size_);
  }

 private:
  const float* single_ = nullptr;
  const double* double_ = nullptr;
  int size_;
};

}  // namespace tom::envs
