#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/activations.h"

namespace tom {

/// The parameters of S x M multilayer perceptrons, or tensors of their shapes: per layer
/// weights [S, M, in, out] and biases [S, M, out].
struct Layers {
  std::vector<at::Tensor> weights, biases;
};

/// What a forward pass leaves for the way back: the value of each hidden layer, and the residual
/// that `activate_backward` wants (which may be the same tensor).
struct Hiddens {
  std::vector<at::Tensor> values, residuals;
};

/// Outputs [S, M, B, O] of inputs x [S, M or 1, B, I]; fills `hiddens` unless it is null, and where
/// it can the tensors that are there from an earlier pass.
///
/// A layer's product is computed in the type of its weight: a bfloat16 weight beside float32 x and
/// biases makes a product of bfloat16 factors, summed in float32 and rounded to bfloat16. What lies
/// between the products (bias, activation, and on the way back their gradients) is computed in the
/// type of x, and so is the output.
at::Tensor mlp_forward(const at::Tensor& x, at::TensorList weights, at::TensorList biases,
                       Activation activation, Hiddens* hiddens);

/// Columns [first, first + count) of x; none if its gradient is not needed.
struct InputColumns {
  int64_t first = 0, count = 0;
};

/// What the way back finds for each row.
struct RowGradients {
  /// d/dz of each layer, [S, M, B, O] in the type of its weight, for the products that give the
  /// weights' gradients.
  std::vector<at::Tensor> layers;
  at::Tensor sums;  ///< of these over blocks of rows: what the biases' gradients are sums of
  at::Tensor x;     ///< d/dx of each member, [S, M, B, columns], undefined if there are none
};

/// Gradients of what `mlp_forward` computed, from d/d output [S, M, B, O].
///
/// The parameters' gradients are written to `grads`, whose tensors are contiguous, unless it is
/// null; those of a bfloat16 weight may be float32 there, and are rounded all the same. Returns the
/// gradient in the given columns of x, [S, M or 1, B, count], summed over the members where they
/// share x. `memory` is filled on the way, where it can be the tensors of an earlier pass.
at::Tensor mlp_backward(const at::Tensor& grad_out, const at::Tensor& x, at::TensorList weights,
                        at::TensorList values, at::TensorList residuals, Activation activation,
                        InputColumns columns, Layers* grads, RowGradients& memory);

}  // namespace tom
