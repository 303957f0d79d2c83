#include "ops/mlp.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "ops/mlp_rows.h"
#include "ops/products.h"

namespace tom {

using at::Tensor;
using at::TensorList;

Tensor mlp_forward(const Tensor& x, TensorList weights, TensorList biases, Activation activation,
                   Hiddens* hiddens) {
  if (has_row_passes(x, weights)) return forward_by_rows(x, weights, biases, activation, hiddens);
  if (hiddens != nullptr) *hiddens = {};
  Tensor h = x;
  for (size_t l = 0; l + 1 < weights.size(); ++l) {
    const Tensor z = member_product(h.to(weights[l].scalar_type()), weights[l]);
    auto [value, residual] =
        activate(z, biases[l], activation, hiddens != nullptr, weights[l + 1].scalar_type());
    if (hiddens != nullptr) {
      hiddens->values.push_back(value);
      hiddens->residuals.push_back(residual);
    }
    h = value;
  }
  const Tensor product = member_product(h.to(weights.back().scalar_type()), weights.back());
  const Tensor bias = biases.back().unsqueeze(2);
  if (product.is_contiguous() && product.scalar_type() == bias.scalar_type()) {
    return product.add_(bias);
  }
  auto out = at::empty(product.sizes(), bias.options());
  at::add_out(out, product, bias);
  return out;
}

namespace {

// As `backward_by_rows`, on any device: layer by layer.
void backward_by_layers(const Tensor& grad_out, TensorList weights, TensorList residuals,
                        Activation activation, InputColumns columns,
                        std::vector<Tensor>* bias_grads, RowGradients& result) {
  const size_t layers = weights.size();
  const auto type = grad_out.scalar_type();
  result.layers.resize(layers);
  Tensor grad = grad_out.to(weights.back().scalar_type());
  if (bias_grads != nullptr) at::sum_out(bias_grads->back(), grad_out, 2);
  for (size_t l = layers; l-- > 0;) {
    if (l + 1 < layers) {
      activate_backward(grad, weights[l + 1], residuals[l], activation,
                        bias_grads ? (*bias_grads)[l] : Tensor(), type, weights[l].scalar_type());
    }
    result.layers[l] = grad;
  }
  if (columns.count > 0) {
    const Tensor used = weights[0].narrow(2, columns.first, columns.count);
    result.x = member_product(grad, used.transpose(2, 3)).to(type);
  }
}

}  // namespace

Tensor mlp_backward(const Tensor& grad_out, const Tensor& x, TensorList weights, TensorList values,
                    TensorList residuals, Activation activation, InputColumns columns,
                    Layers* grads, RowGradients& memory) {
  TORCH_CHECK_VALUE(grad_out.scalar_type() == x.scalar_type(), "mlp_backward: the gradient is ",
                    grad_out.scalar_type(), "; it must be ", x.scalar_type(), " as the input.");
  const auto pass = has_row_passes(x, weights) ? backward_by_rows : backward_by_layers;
  pass(grad_out, weights, residuals, activation, columns, grads ? &grads->biases : nullptr, memory);
  for (size_t l = weights.size(); grads != nullptr && l-- > 0;) {
    const Tensor input = l == 0 ? x.to(weights[0].scalar_type()) : values[l - 1];
    member_product_out(grads->weights[l], input.transpose(2, 3), memory.layers[l]);
  }
  if (columns.count == 0) return {};
  // The gradient of an input that the members of a seed share is the sum of theirs.
  return x.size(1) == memory.x.size(1) ? memory.x : at::sum(memory.x, 1, /*keepdim=*/true);
}

}  // namespace tom
