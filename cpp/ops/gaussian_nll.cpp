#include "ops/gaussian_nll.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <cmath>

#include "ops/vectorized.h"

namespace tom {
namespace {

using at::Tensor;
using at::vec::Vectorized;

constexpr int64_t kBlock = 64;       // rows per partial sum, whatever the number of threads
constexpr int64_t kGrain = 1 << 12;  // elements worth waking another thread for

// The log-variance v held softly between its bounds, e^-v, and for each softplus its slope and what
// that lacks of one, which is the bound's own share of the gradient.
template <typename V>
struct Held {
  V log_var, precision, above_min, at_min, below_max, at_max;
};

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

// Between any bounds, as the definition has it.
template <typename T>
class AnyBounds {
  using V = Vectorized<T>;

 public:
  AnyBounds(const T* lower, const T* upper, int64_t n)
      : lower_(V::loadu(lower, n)), upper_(V::loadu(upper, n)) {}

  Held<V> hold(V log_var) const {
    const Softplus<V> below_max(upper_ - log_var);
    const Softplus<V> above_min(upper_ - below_max.value - lower_);
    const V held = lower_ + above_min.value;
    const V at_min = V(1) - above_min.slope, at_max = V(1) - below_max.slope;
    return {held, fast_exp(held.neg()), above_min.slope, at_min, below_max.slope, at_max};
  }

 private:
  V lower_, upper_;
};

// Between bounds whose exponentials are far from the ends of T's range, one exponential and one
// logarithm serve all: with q = e^(max - log_var) and c = e^(max - min),
//
//     v = min + log(1 + c / (1 + q)),  e^-v = e^-min (1 + q) / (1 + q + c),
//     slopes c / (1 + q + c) and q / (1 + q).
template <typename T>
class ModerateBounds {
  using V = Vectorized<T>;
  static constexpr T kLimit = sizeof(T) == 4 ? T(80) : T(700);  // e^(limit + 7) is finite
  // From the largest q on, c / (1 + q) must be below what T resolves beside 1.
  static constexpr T kWidest = sizeof(T) == 4 ? T(70) : T(670);

 public:
  ModerateBounds(const T* lower, const T* upper, int64_t n)
      : lower_(V::loadu(lower, n)),
        upper_(V::loadu(upper, n)),
        ratio_(fast_exp(upper_ - lower_)),
        highest_precision_(fast_exp(lower_.neg())) {}

  static bool moderate(const T* lower, const T* upper, int64_t n) {
    bool all = true;  // false for NaN
    for (int64_t i = 0; i < n; ++i) {
      all &= std::abs(lower[i]) <= kLimit && std::abs(upper[i] - lower[i]) <= kWidest;
    }
    return all;
  }

  Held<V> hold(V log_var) const {
    const V q = fast_exp(at::vec::clamp_max(upper_ - log_var, V(kLimit + 7)));
    const V one = V(1) + q, both = one + ratio_;
    const V by_one = V(1) / one, by_both = V(1) / both, at_min = one * by_both;
    return {lower_ + fast_log(both * by_one),
            highest_precision_ * at_min,
            ratio_ * by_both,
            at_min,
            q * by_one,
            by_one};
  }

 private:
  V lower_, upper_, ratio_, highest_precision_;
};

// One member's rows, with strides in elements; the last axis of each is contiguous.
template <typename T>
struct Member {
  const T *mean, *log_var, *min_log_var, *max_log_var, *target, *weight;
  int64_t mean_stride, log_var_stride, target_stride, weight_stride;
  T *grad_mean, *grad_log_var;  // contiguous, or null
  int64_t columns;
};

// What a block of rows adds to the member's loss and to the gradients of its bounds.
struct BlockSums {
  double* loss;
  double *min_log_var, *max_log_var;  // [D], or null
};

template <typename T>
void store_lanes(Vectorized<T> v, double* to, int64_t n) {
  T lanes[Vectorized<T>::size()];
  v.store(lanes);
  std::copy_n(lanes, n, to);
}

// Rows [begin, end) of columns [first, first + n), at most one vector; `scale` is 1 / (B D).
template <typename T, template <typename> class Bounds, bool NeedGradients>
void column_block(const Member<T>& m, int64_t begin, int64_t end, int64_t first, int64_t n, T scale,
                  const BlockSums& sums) {
  using V = Vectorized<T>;
  const Bounds<T> bounds(m.min_log_var + first, m.max_log_var + first, n);
  V loss(0), grad_min(0), grad_max(0);
  for (int64_t b = begin; b < end; ++b) {
    const Held<V> held = bounds.hold(V::loadu(m.log_var + b * m.log_var_stride + first, n));
    const V error = V::loadu(m.mean + b * m.mean_stride + first, n) -
                    V::loadu(m.target + b * m.target_stride + first, n);
    const V weight(m.weight[b * m.weight_stride] * scale), half_weight = V(T(0.5)) * weight;
    const V precise_error = error * held.precision, squared = error * precise_error;
    loss = loss + half_weight * (squared + held.log_var);
    if constexpr (NeedGradients) {
      const V grad_lower = half_weight * (V(1) - squared);
      const V grad_upper = grad_lower * held.above_min;
      const V grad_log_var = grad_upper * held.below_max;
      (weight * precise_error).store(m.grad_mean + b * m.columns + first, n);
      grad_log_var.store(m.grad_log_var + b * m.columns + first, n);
      grad_min = at::vec::fmadd(grad_lower, held.at_min, grad_min);
      grad_max = at::vec::fmadd(grad_upper, held.at_max, grad_max);
    }
  }
  double lanes[V::size()];  // of a last vector, those behind n are of no column
  store_lanes(loss, lanes, n);
  for (int64_t i = 0; i < n; ++i) *sums.loss += lanes[i];
  if constexpr (NeedGradients) {
    store_lanes(grad_min, sums.min_log_var + first, n);
    store_lanes(grad_max, sums.max_log_var + first, n);
  }
}

template <typename T, template <typename> class Bounds, bool NeedGradients>
void block(const Member<T>& m, int64_t begin, int64_t end, T scale, const BlockSums& sums) {
  constexpr int64_t kLanes = Vectorized<T>::size();
  for (int64_t i = 0; i < m.columns; i += kLanes) {
    const int64_t n = std::min(kLanes, m.columns - i);
    column_block<T, Bounds, NeedGradients>(m, begin, end, i, n, scale, sums);
  }
}

template <typename T>
auto block_for(const Member<T>& m, bool need_gradients) {
  if (ModerateBounds<T>::moderate(m.min_log_var, m.max_log_var, m.columns)) {
    return need_gradients ? block<T, ModerateBounds, true> : block<T, ModerateBounds, false>;
  }
  return need_gradients ? block<T, AnyBounds, true> : block<T, AnyBounds, false>;
}

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
            need_gradients ? grad_log_var + offset : nullptr,
            columns};
  };
  // Per block: its loss, then the gradients of the bounds.
  const int64_t width = need_gradients ? 1 + 2 * columns : 1;
  std::vector<double> partial(stacks * blocks * width);
  const T scale = rows == 0 ? T(0) : static_cast<T>(1.0 / static_cast<double>(rows * columns));
  const int64_t grain = std::max<int64_t>(1, kGrain / (kBlock * columns));
  at::parallel_for(0, stacks * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const Member<T> m = member(task / blocks);
      double* sums = partial.data() + task * width;
      const int64_t first = task % blocks * kBlock;
      block_for(m, need_gradients)(m, first, std::min(first + kBlock, rows), scale,
                                   {sums, sums + 1, sums + 1 + columns});
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
