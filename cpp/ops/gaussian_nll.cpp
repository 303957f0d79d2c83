#include "ops/gaussian_nll.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <cstring>

#include "ops/vectorized.h"

namespace tom {
namespace {

using at::Tensor;
using at::vec::Vectorized;

constexpr int64_t kBlock = 64;  // rows per partial sum, whatever the number of threads

// log(1 + e^u) and its slope, without overflow at either end.
template <typename V>
struct Softplus {
  V value, slope;
  explicit Softplus(V u) {
    const V t = fast_exp(u.abs().neg()), one = V(1) + t, two = V(2) + t;
    // One division serves log(1 + t), which wants t / (2 + t), and the slope: they take most of the
    // time.
    const V both = V(1) / (one * two);
    value = at::vec::maximum(u, V(0)) + log1p_unit(t, t * one * both);
    slope = V::blendv(t, V(1), u >= V(0)) * two * both;
  }
};

// One member's rows, with strides in elements; the last axis of each is contiguous.
template <typename T>
struct Member {
  const T *mean, *log_var, *min_log_var, *max_log_var, *target, *weight;
  int64_t mean_stride, log_var_stride, target_stride, weight_stride;
  T *grad_mean, *grad_log_var;  // contiguous, or null
};

// What a block of rows adds to the member's loss and to the gradients of its bounds.
struct BlockSums {
  double* loss;
  double *min_log_var, *max_log_var;  // [D], or null
};

// A tile holds as many rows as a vector has lanes. Its rows are copied side by side, so that
// vectors run over whole multiples of their size whatever D is and however the arguments are
// strided. Rows past the end of the block are zeros of weight zero.
template <typename T>
class Tile {
  using V = Vectorized<T>;
  static constexpr int64_t kRows = V::size();

 public:
  Tile(const Member<T>& member, int64_t columns, T scale, bool need_gradients)
      : member_(member),
        columns_(columns),
        size_(kRows * columns),
        scale_(scale),
        need_gradients_(need_gradients),
        memory_(kArrays * size_) {
    for (int64_t row = 0; row < kRows; ++row) {
      std::copy_n(member.min_log_var, columns, array(kMin) + row * columns);
      std::copy_n(member.max_log_var, columns, array(kMax) + row * columns);
    }
  }

  void process(int64_t begin, int64_t end, const BlockSums& sums) {
    V loss(0);
    std::fill_n(array(kGradMin), 2 * size_, T(0));
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t rows = std::min(kRows, end - first);
      load(first, rows);
      for (int64_t i = 0; i < size_; i += kRows) loss = loss + step(i);
      if (need_gradients_) store(first, rows);
    }
    T lanes[kRows];
    loss.store(lanes);
    *sums.loss = 0;
    for (const T lane : lanes) *sums.loss += lane;
    if (need_gradients_) {
      fold(array(kGradMin), sums.min_log_var);
      fold(array(kGradMax), sums.max_log_var);
    }
  }

 private:
  enum { kMin, kMax, kMean, kLogVar, kTarget, kWeight, kGradMin, kGradMax, kArrays };

  T* array(int which) { return memory_.data() + which * size_; }
  V get(int which, int64_t i) { return V::loadu(array(which) + i); }

  // Rows are short: a vector or two in registers, where std::copy would call memmove.
  template <typename F>
  void for_row(const F& f) {
    int64_t i = 0;
    for (; i + kRows <= columns_; i += kRows) f(i, kRows);
    if (i < columns_) f(i, columns_ - i);
  }

  void copy_row(const T* from, T* to) {
    for_row([&](int64_t i, int64_t n) { V::loadu(from + i, n).store(to + i, n); });
  }

  void load(int64_t first, int64_t rows) {
    if (rows < kRows) std::fill_n(array(kMean), 4 * size_, T(0));  // mean, log_var, target, weight
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t b = first + row, at = row * columns_;
      copy_row(member_.mean + b * member_.mean_stride, array(kMean) + at);
      copy_row(member_.log_var + b * member_.log_var_stride, array(kLogVar) + at);
      copy_row(member_.target + b * member_.target_stride, array(kTarget) + at);
      const V weight(member_.weight[b * member_.weight_stride] * scale_);
      for_row([&](int64_t i, int64_t n) { weight.store(array(kWeight) + at + i, n); });
    }
  }

  // One vector: returns its share of the loss and replaces mean and log_var by their gradients.
  V step(int64_t i) {
    const V upper = get(kMax, i), lower = get(kMin, i), weight = get(kWeight, i);
    const Softplus<V> below_max(upper - get(kLogVar, i));
    const Softplus<V> above_min(upper - below_max.value - lower);
    const V log_var = lower + above_min.value;
    const V error = get(kMean, i) - get(kTarget, i);
    const V precise_error = error * fast_exp(log_var.neg());
    const V half_weight = V(T(0.5)) * weight;
    const V squared = error * precise_error;
    if (need_gradients_) {
      const V grad_lower = half_weight * (V(1) - squared);
      const V grad_upper = grad_lower * above_min.slope;
      const V grad_log_var = grad_upper * below_max.slope;
      (weight * precise_error).store(array(kMean) + i);
      grad_log_var.store(array(kLogVar) + i);
      (get(kGradMin, i) + grad_lower - grad_upper).store(array(kGradMin) + i);
      (get(kGradMax, i) + grad_upper - grad_log_var).store(array(kGradMax) + i);
    }
    return half_weight * (squared + log_var);
  }

  void store(int64_t first, int64_t rows) {
    std::copy_n(array(kMean), rows * columns_, member_.grad_mean + first * columns_);
    std::copy_n(array(kLogVar), rows * columns_, member_.grad_log_var + first * columns_);
  }

  void fold(const T* tile, double* columns) {
    std::fill_n(columns, columns_, 0.0);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t i = 0; i < columns_; ++i) columns[i] += tile[row * columns_ + i];
    }
  }

  Member<T> member_;
  int64_t columns_, size_;
  T scale_;
  bool need_gradients_;
  std::vector<T> memory_;
};

template <typename T>
Nll kernel(const NllArguments& a, bool need_gradients) {
  const int64_t members = a.mean.size(1), stacks = a.mean.size(0) * members;
  const int64_t rows = a.mean.size(2), columns = a.mean.size(3);
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const auto options = a.mean.options();
  Nll result{at::empty({a.mean.size(0), members}, options), {}};
  if (need_gradients) {
    result.gradients = {at::empty(a.mean.sizes(), options), at::empty(a.mean.sizes(), options),
                        at::empty(a.min_log_var.sizes(), options),
                        at::empty(a.max_log_var.sizes(), options)};
  }
  const auto gradient = [&](int i) {
    return need_gradients ? result.gradients[i].template mutable_data_ptr<T>() : nullptr;
  };
  T *grad_mean = gradient(0), *grad_log_var = gradient(1);
  const auto at_member = [&](const Tensor& t, int64_t n) {  // with one member, all share it
    return t.const_data_ptr<T>() + n / members * t.stride(0) +
           (t.size(1) == 1 ? 0 : n % members * t.stride(1));
  };
  const auto member = [&](int64_t n) -> Member<T> {
    const int64_t offset = n * rows * columns;
    return {at_member(a.mean, n),
            at_member(a.log_var, n),
            at_member(a.min_log_var, n),
            at_member(a.max_log_var, n),
            at_member(a.target, n),
            at_member(a.weight, n),
            a.mean.stride(2),
            a.log_var.stride(2),
            a.target.stride(2),
            a.weight.stride(2),
            need_gradients ? grad_mean + offset : nullptr,
            need_gradients ? grad_log_var + offset : nullptr};
  };
  // Per block: its loss, then the gradients of the bounds.
  const int64_t width = need_gradients ? 1 + 2 * columns : 1;
  std::vector<double> partial(stacks * blocks * width);
  const T scale = rows == 0 ? T(0) : static_cast<T>(1.0 / static_cast<double>(rows * columns));
  at::parallel_for(0, stacks * blocks, /*grain=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      double* sums = partial.data() + task * width;
      const int64_t first = task % blocks * kBlock;
      Tile<T>(member(task / blocks), columns, scale, need_gradients)
          .process(first, std::min(first + kBlock, rows), {sums, sums + 1, sums + 1 + columns});
    }
  });
  T* loss = result.loss.template mutable_data_ptr<T>();
  T *grad_min = gradient(2), *grad_max = gradient(3);
  for (int64_t n = 0; n < stacks; ++n) {
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (int64_t b = n * blocks; b < (n + 1) * blocks; ++b) sum += partial[b * width + i];
      T* out = i == 0         ? loss + n
               : i <= columns ? grad_min + n * columns + i - 1
                              : grad_max + n * columns + i - 1 - columns;
      *out = static_cast<T>(sum);
    }
  }
  return result;
}

Tensor rows_contiguous(const Tensor& t) { return t.stride(-1) == 1 ? t : t.contiguous(); }

Tensor log1p_exp(const Tensor& u) { return -at::log_sigmoid(-u); }

}  // namespace

Nll gaussian_nll(const NllArguments& a, bool need_gradients) {
  const Tensor lower = a.min_log_var.unsqueeze(2), upper = a.max_log_var.unsqueeze(2);
  const Tensor below_max = upper - a.log_var;
  const Tensor above_min = upper - log1p_exp(below_max) - lower;
  const Tensor log_var = lower + log1p_exp(above_min);
  const Tensor error = a.mean - a.target;
  const Tensor precise_error = error * at::exp(-log_var);
  const Tensor squared = error * precise_error;
  const int64_t rows = std::max<int64_t>(1, a.mean.size(2));
  const Tensor weight = a.weight.unsqueeze(3) / static_cast<double>(rows * a.mean.size(3));
  Nll result{at::sum(0.5 * weight * (squared + log_var), {2, 3}), {}};
  if (need_gradients) {
    const Tensor grad_lower = 0.5 * weight * (1 - squared);
    const Tensor grad_upper = grad_lower * at::sigmoid(above_min);
    const Tensor grad_log_var = grad_upper * at::sigmoid(below_max);
    result.gradients = {weight * precise_error, grad_log_var, at::sum(grad_lower - grad_upper, 2),
                        at::sum(grad_upper - grad_log_var, 2)};
  }
  return result;
}

Nll gaussian_nll_cpu(const NllArguments& arguments, bool need_gradients) {
  const NllArguments a{
      rows_contiguous(arguments.mean),        rows_contiguous(arguments.log_var),
      rows_contiguous(arguments.min_log_var), rows_contiguous(arguments.max_log_var),
      rows_contiguous(arguments.target),      arguments.weight};
  return a.mean.scalar_type() == at::kFloat ? kernel<float>(a, need_gradients)
                                            : kernel<double>(a, need_gradients);
}

}  // namespace tom
