// The actor's distribution. The tensors are small: as some forty operations their calls take
// longer than their arithmetic, so on the CPU each way is one kernel.

#include "ops/squashed_gaussian.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/cpu_kernels.h"
#include "ops/scratch.h"
#include "ops/vectorized.h"

namespace tom {
namespace {

using at::Tensor;

// log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2u)), which does not underflow for large |u|. The
// constant of a log-density is, per action, the first term's and the Gaussian's.
const double kConstant = -2 * std::numbers::ln2 - 0.5 * std::log(2 * std::numbers::pi);

// ---------------------------------------------------------------------------------------------
// Composed of ATen operations, for every device

SquashedSample composed_sample(const Tensor& out, const Tensor& noise,
                               const SquashedGaussian& gaussian) {
  const int64_t actions = noise.size(2);
  SquashedSample sample;
  sample.raw_log_std = out.narrow(2, actions, actions);
  const Tensor log_std = sample.raw_log_std.clamp(gaussian.log_std_min, gaussian.log_std_max);
  sample.spread = at::exp(log_std).mul_(noise);
  const Tensor u = out.narrow(2, 0, actions) + sample.spread;
  sample.squashed = at::tanh(u);
  sample.action = sample.squashed * gaussian.scale + gaussian.center;
  Tensor terms = at::softplus(u * -2, /*beta=*/1, /*threshold=*/50).add_(u).mul_(2);
  terms.sub_(log_std).sub_(noise * noise, 0.5);
  sample.log_prob = at::sum(terms, 2).add_(kConstant * static_cast<double>(actions));
  return sample;
}

Tensor composed_backward(const SquashedSample& sample, const Tensor& grad_action,
                         const Tensor& grad_log_prob, const SquashedGaussian& gaussian) {
  const int64_t rows = grad_action.size(1);
  const Tensor t = sample.squashed.narrow(1, 0, rows);
  const Tensor grad_u =
      (t * t).neg_().add_(1).mul_(grad_action * gaussian.scale).add_(t * grad_log_prob, 2);
  Tensor grad_log_std = (grad_u * sample.spread.narrow(1, 0, rows)).sub_(grad_log_prob);
  const Tensor raw = sample.raw_log_std.narrow(1, 0, rows);
  grad_log_std.mul_((raw >= gaussian.log_std_min).logical_and_(raw <= gaussian.log_std_max));
  return at::cat({grad_u, grad_log_std}, 2);
}

// ---------------------------------------------------------------------------------------------
// Kernels

constexpr int64_t kBlock = 64;              // rows whose numbers are laid out in lanes at a time
constexpr int64_t kParallelRows = 1 << 10;  // worth waking another thread for

// softplus(-2u) + u.
template <typename V>
V softplus_term(V u) {
  const V t = fast_exp(u.abs() * V(-2));
  return u.abs() + log1p_unit(t, t / (V(2) + t));
}

template <typename T>
SquashedSample sample_kernel(const Tensor& out, const Tensor& noise,
                             const SquashedGaussian& gaussian) {
  using V = at::vec::Vectorized<T>;
  const int64_t rows = out.size(0) * out.size(1), actions = noise.size(2);
  const SquashedSample sample{
      at::empty_like(noise), at::empty(out.sizes().slice(0, 2), out.options()),
      out.narrow(2, actions, actions), at::empty_like(noise), at::empty_like(noise)};
  const T *outs = out.const_data_ptr<T>(), *noises = noise.const_data_ptr<T>();
  const T *scale = gaussian.scale.const_data_ptr<T>(),
          *center = gaussian.center.const_data_ptr<T>();
  T *action = sample.action.mutable_data_ptr<T>(),
    *log_prob = sample.log_prob.mutable_data_ptr<T>();
  T *spread = sample.spread.mutable_data_ptr<T>(),
    *squashed = sample.squashed.mutable_data_ptr<T>();
  const V low(static_cast<T>(gaussian.log_std_min)), high(static_cast<T>(gaussian.log_std_max));
  at::parallel_for(0, rows, kParallelRows, [&](int64_t begin, int64_t end) {
    thread_local Scratch<T> memory;
    T* means = memory.of(3 * kBlock * actions);
    T *log_stds = means + kBlock * actions, *terms = log_stds + kBlock * actions;
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t block = std::min(kBlock, end - first), at = first * actions;
      for (int64_t i = 0; i < block; ++i) {
        const T* row = outs + (first + i) * 2 * actions;
        std::copy_n(row, actions, means + i * actions);
        std::copy_n(row + actions, actions, log_stds + i * actions);
      }
      for (int64_t i = 0; i < block * actions; i += V::size()) {
        const int64_t n = std::min<int64_t>(V::size(), block * actions - i);
        const V drawn = V::loadu(noises + at + i, n);
        const V log_std = at::vec::clamp(V::loadu(log_stds + i, n), low, high);
        const V times = fast_exp(log_std) * drawn, u = V::loadu(means + i, n) + times;
        times.store(spread + at + i, n);
        u.tanh().store(squashed + at + i, n);
        const V term = V(2) * softplus_term(u) - log_std - drawn * drawn * V(T(0.5));
        term.store(terms + i, n);
      }
      for (int64_t i = 0; i < block; ++i) {
        T sum = static_cast<T>(kConstant) * static_cast<T>(actions);
        for (int64_t j = 0; j < actions; ++j) {
          const int64_t k = i * actions + j;
          sum += terms[k];
          action[at + k] = squashed[at + k] * scale[j] + center[j];
        }
        log_prob[first + i] = sum;
      }
    }
  });
  return sample;
}

template <typename T>
Tensor backward_kernel(const SquashedSample& sample, const Tensor& grad_action,
                       const Tensor& grad_log_prob, const SquashedGaussian& gaussian) {
  const int64_t seeds = grad_action.size(0), rows = grad_action.size(1);
  const int64_t all_rows = sample.squashed.size(1), actions = grad_action.size(2);
  const Tensor grad_out = at::empty({seeds, rows, 2 * actions}, grad_action.options());
  const T *grad = grad_action.const_data_ptr<T>(), *grad_log = grad_log_prob.const_data_ptr<T>();
  const T* squashed = sample.squashed.const_data_ptr<T>();
  const T *spread = sample.spread.const_data_ptr<T>(), *scale = gaussian.scale.const_data_ptr<T>();
  const T* raw_log_std = sample.raw_log_std.const_data_ptr<T>();  // the second half of a row
  const T low = static_cast<T>(gaussian.log_std_min), high = static_cast<T>(gaussian.log_std_max);
  T* to = grad_out.mutable_data_ptr<T>();
  at::parallel_for(0, seeds * rows, kParallelRows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t seed = row / rows, from = seed * all_rows + row % rows;
      for (int64_t j = 0; j < actions; ++j) {
        const T t = squashed[from * actions + j], raw = raw_log_std[from * 2 * actions + j];
        const T grad_u = (1 - t * t) * grad[row * actions + j] * scale[j] + 2 * t * grad_log[seed];
        const T grad_log_std = grad_u * spread[from * actions + j] - grad_log[seed];
        to[row * 2 * actions + j] = grad_u;
        to[row * 2 * actions + actions + j] = raw >= low && raw <= high ? grad_log_std : T(0);
      }
    }
  });
  return grad_out;
}

void check_as(const Tensor& t, const Tensor& like, const char* name, at::IntArrayRef shape) {
  TORCH_CHECK_VALUE(
      t.sizes() == shape && t.scalar_type() == like.scalar_type() && t.device() == like.device(),
      "squashed_gaussian: ", name, " is ", t.scalar_type(), " of shape ", t.sizes(), " on ",
      t.device(), "; it must be ", like.scalar_type(), " of shape ", shape, " on ", like.device(),
      ".");
}

// For tests: both ways.
std::tuple<Tensor, Tensor, Tensor> squashed_gaussian(const Tensor& out, const Tensor& noise,
                                                     const Tensor& scale, const Tensor& center,
                                                     double log_std_min, double log_std_max,
                                                     const Tensor& grad_action,
                                                     const Tensor& grad_log_prob) {
  const SquashedGaussian gaussian{scale, center, log_std_min, log_std_max};
  const SquashedSample sample = squashed_sample(out, noise, gaussian);
  return {sample.action, sample.log_prob,
          squashed_backward(sample, grad_action, grad_log_prob, gaussian)};
}

}  // namespace

SquashedSample squashed_sample(const Tensor& out, const Tensor& noise,
                               const SquashedGaussian& gaussian) {
  TORCH_CHECK_VALUE(noise.dim() == 3, "squashed_gaussian: noise has shape ", noise.sizes(),
                    "; it must be [S, B, A].");
  const int64_t actions = noise.size(2);
  check_as(out, noise, "out", {noise.size(0), noise.size(1), 2 * actions});
  check_as(gaussian.scale, noise, "scale", {actions});
  check_as(gaussian.center, noise, "center", {actions});
  if (!takes_float_kernels(out)) return composed_sample(out, noise, gaussian);
  const SquashedGaussian rows{gaussian.scale.contiguous(), gaussian.center.contiguous(),
                              gaussian.log_std_min, gaussian.log_std_max};
  return out.scalar_type() == at::kFloat
             ? sample_kernel<float>(out.contiguous(), noise.contiguous(), rows)
             : sample_kernel<double>(out.contiguous(), noise.contiguous(), rows);
}

Tensor squashed_backward(const SquashedSample& sample, const Tensor& grad_action,
                         const Tensor& grad_log_prob, const SquashedGaussian& gaussian) {
  const Tensor& like = sample.squashed;
  const int64_t kept = grad_action.dim() == 3 ? std::min(grad_action.size(1), like.size(1)) : 0;
  check_as(grad_action, like, "grad_action", {like.size(0), kept, like.size(2)});
  check_as(grad_log_prob, like, "grad_log_prob", {like.size(0), 1, 1});
  if (!takes_float_kernels(grad_action)) {
    return composed_backward(sample, grad_action, grad_log_prob, gaussian);
  }
  const Tensor grad = grad_action.contiguous(), grad_log = grad_log_prob.contiguous();
  const SquashedGaussian rows{gaussian.scale.contiguous(), gaussian.center, gaussian.log_std_min,
                              gaussian.log_std_max};
  return grad.scalar_type() == at::kFloat ? backward_kernel<float>(sample, grad, grad_log, rows)
                                          : backward_kernel<double>(sample, grad, grad_log, rows);
}

TORCH_LIBRARY_IMPL(tom_tests, CompositeExplicitAutograd, m) {
  m.impl("squashed_gaussian", squashed_gaussian);
}

}  // namespace tom
