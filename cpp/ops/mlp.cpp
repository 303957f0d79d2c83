#include "ops/mlp.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "ops/mlp_inference.h"
#include "ops/products.h"

namespace tom {

using at::Tensor;
using at::TensorList;

Tensor mlp_forward(const Tensor& x, TensorList weights, TensorList biases, Activation activation,
                   Hiddens* hiddens) {
  if (hiddens == nullptr && has_mlp_inference(x, weights, biases)) {
    return mlp_inference(x, weights, biases, activation);
  }
  Tensor h = x;
  for (size_t l = 0; l + 1 < weights.size(); ++l) {
    auto [value, residual] = hidden_layer(h, weights[l], biases[l], activation, hiddens != nullptr,
                                          weights[l + 1].scalar_type());
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

Tensor mlp_backward(const Tensor& grad_out, const Tensor& x, TensorList weights, TensorList values,
                    TensorList residuals, Activation activation, InputColumns columns,
                    Layers* grads) {
  const size_t layers = weights.size();
  Tensor grad = grad_out;
  for (size_t l = layers; l-- > 0;) {
    const auto type = weights[l].scalar_type();
    if (l + 1 < layers) {
      activate_backward(grad, weights[l + 1], residuals[l], activation,
                        grads ? grads->biases[l] : Tensor(), x.scalar_type(), type);
    } else {
      if (grads != nullptr) at::sum_out(grads->biases[l], grad, 2);
      grad = grad.to(type);
    }
    if (grads != nullptr) {
      const Tensor input = l == 0 ? x.to(type) : values[l - 1];
      member_product_out(grads->weights[l], input.transpose(2, 3), grad);
    }
  }
  if (columns.count == 0) return {};
  const Tensor used = weights[0].narrow(2, columns.first, columns.count);
  const Tensor grad_x = member_product(grad, used.transpose(2, 3)).to(x.scalar_type());
  // The gradient of an input that the members of a seed share is the sum of theirs.
  return x.size(1) == grad_x.size(1) ? grad_x : at::sum(grad_x, 1, /*keepdim=*/true);
}

}  // namespace tom
