// One simulation's action, in the precision in which the caller gave it.
#pragma once

#include "envs/numpy_math.h"

namespace tom::envs {

class Action {
 public:
  Action(const float* values, int size) : single_(values), size_(size) {}
  Action(const double* values, int size) : double_(values), size_(size) {}

  void write_to(double* control) const {
    for (int i = 0; i < size_; ++i) control[i] = single_ ? double(single_[i]) : double_[i];
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
