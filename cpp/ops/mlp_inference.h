#pragma once

#include <ATen/core/Tensor.h>

#include "ops/activations.h"

namespace tom {

/// Whether `mlp_inference` takes these inputs: where blocked products are used, and the rows are
/// enough for every thread to have some. Weights between hidden layers may be bfloat16.
bool has_mlp_inference(const at::Tensor& x, at::TensorList weights, at::TensorList biases);

/// Outputs [S, M, B, O] of inputs x [S, M or 1, B, I], nothing kept for a way back.
///
/// A block of rows goes through all layers while it is in its thread's cache, so that no hidden
/// layer is ever written to memory.
at::Tensor mlp_inference(const at::Tensor& x, at::TensorList weights, at::TensorList biases,
                         Activation activation);

}  // namespace tom
