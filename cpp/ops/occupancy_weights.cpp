// tom::occupancy_weights: xi* = f*'(delta) along the last axis (eq. 23), with its statistics.

#include "ops/occupancy_weights.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include "ops/cpu_kernels.h"
#include "ops/vectorized.h"

namespace tom {
namespace {

using at::Tensor;
using at::vec::Vectorized;

constexpr int64_t kBlock = 4096;  // weights per partial sum, whatever the number of threads
constexpr int64_t kLanes = 8;  // independent float64 sums, so that the compiler can vectorise them

enum class Divergence { chi2, chi2_bound, kl };

Divergence divergence_from(std::string_view name) {
  if (name == "chi2") return Divergence::chi2;
  if (name == "chi2_bound") return Divergence::chi2_bound;
  TORCH_CHECK_VALUE(name == "kl", "occupancy_weights: divergence '", name,
                    "' is unknown; use 'chi2', 'chi2_bound' or 'kl'.");
  return Divergence::kl;
}

void check(const Tensor& delta, double max_weight) {
  TORCH_CHECK_VALUE(delta.dim() >= 1 && at::isFloatingType(delta.scalar_type()),
                    "occupancy_weights: delta is ", delta.scalar_type(), " of shape ",
                    delta.sizes(), "; it must be of a floating-point type and shape [..., N].");
  TORCH_CHECK_VALUE(max_weight > 0, "occupancy_weights: max_weight is ", max_weight,
                    "; it must be positive (infinity for no clipping).");
}

// f*'(delta) for f(x) = (x - 1)^2 / 2, and for f(x) = (x - 1)^2, whose conjugate grows half as
// fast.
double slope_of(Divergence divergence) { return divergence == Divergence::chi2 ? 1.0 : 0.5; }

// ---------------------------------------------------------------------------------------------
// CPU kernel

struct Sums {
  double total = 0, squares = 0;
  int64_t clipped = 0;
};

struct LogSumExp {
  double maximum = -std::numeric_limits<double>::infinity(), scaled_sum = 0;
};

// Comparisons are written so that NaN fails them and stays visible in the result.
template <typename T>
T clip(T weight, T max_weight, int64_t& clipped) {
  clipped += weight > max_weight;
  return weight > max_weight ? max_weight : weight;
}

template <typename T>
Sums sums_of(const T* weights, int64_t n) {
  double total[kLanes] = {}, squares[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double w = weights[i + lane];
      total[lane] += w;
      squares[lane] += w * w;
    }
  }
  for (int64_t lane = 0; i < n; ++i, ++lane) {
    const double w = weights[i];
    total[lane] += w;
    squares[lane] += w * w;
  }
  Sums sums;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sums.total += total[lane];
    sums.squares += squares[lane];
  }
  return sums;
}

template <typename T>
Sums chi2_block(const T* delta, T* weights, int64_t n, T slope, T max_weight) {
  int64_t clipped = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T weight = 1 + slope * delta[i];
    weights[i] = clip(weight < 0 ? T(0) : weight, max_weight, clipped);
  }
  Sums sums = sums_of(weights, n);
  sums.clipped = clipped;
  return sums;
}

template <typename T>
LogSumExp log_sum_exp_block(const T* delta, int64_t n) {
  using V = Vectorized<T>;
  T maximum = -std::numeric_limits<T>::infinity();
  for (int64_t i = 0; i < n; ++i) maximum = delta[i] > maximum ? delta[i] : maximum;
  const T shift = std::isinf(maximum) ? T(0) : maximum;  // a block of -inf adds 0, not NaN
  V sum(0);
  int64_t i = 0;
  for (; i + V::size() <= n; i += V::size()) sum = sum + (V::loadu(delta + i) - V(shift)).exp();
  T lanes[V::size()];
  sum.store(lanes);
  double total = 0;
  for (const T lane : lanes) total += lane;
  for (; i < n; ++i) total += std::exp(delta[i] - shift);
  return {maximum, total};
}

// The maximum and the logarithm of mean exp(delta - maximum), from their parts in order: apart,
// since their sum has no digits left for the second where delta is large.
template <typename T>
std::pair<T, T> log_mean_exp(const LogSumExp* parts, int64_t count, int64_t n) {
  double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t b = 0; b < count; ++b) maximum = std::max(maximum, parts[b].maximum);
  for (int64_t b = 0; b < count; ++b) {
    sum += parts[b].scaled_sum * std::exp(parts[b].maximum - maximum);
  }
  return {static_cast<T>(maximum), static_cast<T>(std::log(sum / static_cast<double>(n)))};
}

template <typename T>
Sums kl_block(const T* delta, T* weights, int64_t n, std::pair<T, T> log_mean, T max_weight) {
  using V = Vectorized<T>;
  const V maximum(log_mean.first), rest(log_mean.second);
  for (int64_t i = 0; i < n; i += V::size()) {
    const int64_t m = std::min<int64_t>(V::size(), n - i);
    (V::loadu(delta + i, m) - maximum - rest).exp().store(weights + i, m);
  }
  int64_t clipped = 0;
  for (int64_t i = 0; i < n; ++i) weights[i] = clip(weights[i], max_weight, clipped);
  Sums sums = sums_of(weights, n);
  sums.clipped = clipped;
  return sums;
}

// Calls f(block's index, row, first element, length) for every block of `rows` rows of n elements.
template <typename F>
void each_block(int64_t rows, int64_t n, const F& f) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  at::parallel_for(0, rows * blocks, /*grain=*/2, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / blocks, first = task % blocks * kBlock;
      f(task, row, row * n + first, std::min(kBlock, n - first));
    }
  });
}

// Adds the blocks' sums in order and writes each row's statistics; `clipped` may be null.
template <typename T>
void write_statistics(const std::vector<Sums>& sums, int64_t rows, int64_t n, T* ess, T* clipped) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  for (int64_t r = 0; r < rows; ++r) {
    Sums row;
    for (int64_t b = r * blocks; b < (r + 1) * blocks; ++b) {
      row.total += sums[b].total;
      row.squares += sums[b].squares;
      row.clipped += sums[b].clipped;
    }
    ess[r] = row.squares == 0 ? T(0) : static_cast<T>(row.total * row.total / row.squares);
    if (clipped == nullptr) continue;
    const double length = static_cast<double>(std::max<int64_t>(1, n));
    clipped[r] = static_cast<T>(static_cast<double>(row.clipped) / length);
  }
}

template <typename T>
void weights_kernel(const Tensor& delta, Divergence divergence, double max_weight,
                    const Tensor& weights, const Tensor& ess, const Tensor& clipped) {
  const int64_t n = delta.size(-1), rows = ess.numel(), blocks = (n + kBlock - 1) / kBlock;
  const T* in = delta.const_data_ptr<T>();
  T* out = weights.mutable_data_ptr<T>();
  const T limit = static_cast<T>(max_weight);
  std::vector<Sums> sums(rows * blocks);
  if (divergence == Divergence::kl) {
    std::vector<LogSumExp> parts(rows * blocks);
    each_block(rows, n, [&](int64_t task, int64_t, int64_t first, int64_t length) {
      parts[task] = log_sum_exp_block(in + first, length);
    });
    std::vector<std::pair<T, T>> log_mean(rows);
    for (int64_t r = 0; r < rows; ++r) {
      log_mean[r] = log_mean_exp<T>(parts.data() + r * blocks, blocks, n);
    }
    each_block(rows, n, [&](int64_t task, int64_t row, int64_t first, int64_t length) {
      sums[task] = kl_block(in + first, out + first, length, log_mean[row], limit);
    });
  } else {
    const T slope = static_cast<T>(slope_of(divergence));
    each_block(rows, n, [&](int64_t task, int64_t, int64_t first, int64_t length) {
      sums[task] = chi2_block(in + first, out + first, length, slope, limit);
    });
  }
  write_statistics(sums, rows, n, ess.mutable_data_ptr<T>(), clipped.mutable_data_ptr<T>());
}

template <typename T>
void ess_kernel(const Tensor& weights, const Tensor& ess) {
  const int64_t n = weights.size(-1), rows = ess.numel();
  const T* in = weights.const_data_ptr<T>();
  std::vector<Sums> sums(rows * ((n + kBlock - 1) / kBlock));
  each_block(rows, n, [&](int64_t task, int64_t, int64_t first, int64_t length) {
    sums[task] = sums_of(in + first, length);
  });
  write_statistics<T>(sums, rows, n, ess.mutable_data_ptr<T>(), nullptr);
}

// ---------------------------------------------------------------------------------------------
// Operator

Tensor unclipped_weights(const Tensor& delta, Divergence divergence) {
  if (divergence == Divergence::kl) {
    return at::softmax(delta, -1) * static_cast<double>(delta.size(-1));
  }
  return (1 + slope_of(divergence) * delta).clamp_min(0);
}

using Result = std::tuple<Tensor, Tensor, Tensor>;

Result occupancy_weights(const Tensor& delta, std::string_view divergence_name, double max_weight) {
  const Divergence divergence = divergence_from(divergence_name);
  check(delta, max_weight);
  if (takes_float_kernels(delta)) {
    const Tensor input = delta.contiguous(), weights = at::empty(input.sizes(), input.options());
    const Tensor ess = at::empty(input.sizes().slice(0, input.dim() - 1), input.options());
    const Tensor clipped = at::empty(ess.sizes(), ess.options());
    input.scalar_type() == at::kFloat
        ? weights_kernel<float>(input, divergence, max_weight, weights, ess, clipped)
        : weights_kernel<double>(input, divergence, max_weight, weights, ess, clipped);
    return {weights, ess, clipped};
  }
  const auto n = static_cast<double>(delta.size(-1));
  const Tensor raw = unclipped_weights(delta, divergence);
  const Tensor weights = raw.clamp_max(max_weight);
  const Tensor clipped = at::sum(raw.gt(max_weight).to(raw.scalar_type()), -1) / std::max(1.0, n);
  return {weights, effective_sample_size(weights), clipped};
}

// The weights are constants of the losses that use them (eq. 25): no gradient passes through.
Result occupancy_weights_autograd(const Tensor& delta, std::string_view divergence,
                                  double max_weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::occupancy_weights", "")
                             .typed<decltype(occupancy_weights)>();
  at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(delta, divergence, max_weight);
}

}  // namespace

Tensor conjugate_slope(const Tensor& delta, std::string_view divergence_name, bool quadratic) {
  const Divergence divergence = divergence_from(divergence_name);
  if (quadratic && divergence != Divergence::kl) return 1 + slope_of(divergence) * delta;
  if (!takes_float_kernels(delta)) return unclipped_weights(delta, divergence);
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  return std::get<0>(occupancy_weights(delta, divergence_name, kNoLimit));
}

Tensor effective_sample_size(const Tensor& weights) {
  TORCH_CHECK_VALUE(weights.dim() >= 1 && at::isFloatingType(weights.scalar_type()),
                    "effective_sample_size: weights is ", weights.scalar_type(), " of shape ",
                    weights.sizes(), "; it must be of a floating-point type and shape [..., N].");
  if (takes_float_kernels(weights)) {
    const Tensor input = weights.contiguous();
    const Tensor ess = at::empty(input.sizes().slice(0, input.dim() - 1), input.options());
    input.scalar_type() == at::kFloat ? ess_kernel<float>(input, ess)
                                      : ess_kernel<double>(input, ess);
    return ess;
  }
  const Tensor total = at::sum(weights, -1), squares = at::sum(weights * weights, -1);
  return at::where(squares.eq(0), squares, total * total / squares);
}

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) {
  m.impl("occupancy_weights", occupancy_weights);
  m.impl("effective_sample_size", effective_sample_size);
}
TORCH_LIBRARY_IMPL(tom, Autograd, m) { m.impl("occupancy_weights", occupancy_weights_autograd); }

}  // namespace tom
