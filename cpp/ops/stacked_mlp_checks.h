#pragma once

#include <ATen/core/Tensor.h>

#include "ops/activations.h"

namespace tom {

/// Raises ValueError unless these are the arguments of a stack of multilayer perceptrons, see
/// `mlp_forward`.
void check_stack(const at::Tensor& x, at::TensorList weights, at::TensorList biases);

/// The same of the way back, whose arguments are those and what a forward pass saved: the value of
/// each hidden layer, and for SiLU then the residual of each.
void check_stack_backward(const at::Tensor& grad_out, const at::Tensor& x, at::TensorList weights,
                          at::TensorList saved, Activation activation);

}  // namespace tom
