#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tom {

/// The arguments of the weighted Gaussian negative log-likelihood; shapes checked by the caller.
struct NllArguments {
  at::Tensor mean, log_var;             ///< [S, M, B, D]
  at::Tensor min_log_var, max_log_var;  ///< [S, M, D]
  at::Tensor target;                    ///< [S, M or 1, B, D]
  at::Tensor weight;                    ///< [S, M or 1, B]
};

/// The loss [S, M] and, if asked for, its gradients in mean, log_var, min_log_var and max_log_var.
struct Nll {
  at::Tensor loss;
  std::vector<at::Tensor> gradients;
};

/// As a composition of differentiable operations, for every device and for gradients of gradients.
Nll gaussian_nll(const NllArguments& arguments, bool need_gradients);

/// In one pass, float32 or float64 on the CPU; the same bits for every number of threads.
Nll gaussian_nll_cpu(const NllArguments& arguments, bool need_gradients);

}  // namespace tom
