#pragma once

#include <ATen/core/Tensor.h>

namespace tom {

/// A Gaussian squashed by tanh and mapped to an environment's bounds.
struct SquashedGaussian {
  at::Tensor scale, center;  ///< half the bounds' width and their middle, [A]
  double log_std_min, log_std_max;
};

/// Actions, and what the way back needs of them.
struct SquashedSample {
  at::Tensor action;       ///< [S, B, A]
  at::Tensor log_prob;     ///< log-density of the action before it is scaled, [S, B]
  at::Tensor raw_log_std;  ///< before it is held within its bounds, [S, B, A]
  at::Tensor spread;       ///< e^log_std times the noise, [S, B, A]
  at::Tensor squashed;     ///< [S, B, A]
};

/// Samples from `out` [S, B, 2A], means and log standard deviations, and `noise` [S, B, A].
SquashedSample squashed_sample(const at::Tensor& out, const at::Tensor& noise,
                               const SquashedGaussian& gaussian);

/// d/d out of the first B' rows, [S, B', 2A], from d/d action [S, B', A] and d/d log_prob, a number
/// per seed, [S, 1, 1].
at::Tensor squashed_backward(const SquashedSample& sample, const at::Tensor& grad_action,
                             const at::Tensor& grad_log_prob, const SquashedGaussian& gaussian);

}  // namespace tom
