#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "ops/mlp.h"

namespace tom {

/// Whether the passes below take these inputs: where blocked products are used. Weights between
/// hidden layers may be bfloat16.
bool has_row_passes(const at::Tensor& x, at::TensorList weights);

/// `mlp_forward` where a thread takes some rows through all layers, from one to the next within its
/// own cache. Threads meet at the end only, and none reads what another has just written: where two
/// of them do not share a cache, that takes longer than the products.
///
/// Without `hiddens` no hidden layer is ever written to memory. Otherwise tensors that are there
/// already and have the right shapes are filled again.
at::Tensor forward_by_rows(const at::Tensor& x, at::TensorList weights, at::TensorList biases,
                           Activation activation, Hiddens* hiddens);

/// The way back from d/d output through the same rows, into `result`; only with `bias_grads`, which
/// it fills, does it keep the gradients of the layers, in the tensors that are there if they fit.
/// The sums over B are taken in blocks of rows whose size does not depend on the number of threads.
void backward_by_rows(const at::Tensor& grad_out, at::TensorList weights, at::TensorList residuals,
                      Activation activation, InputColumns columns,
                      std::vector<at::Tensor>* bias_grads, RowGradients& result);

}  // namespace tom
