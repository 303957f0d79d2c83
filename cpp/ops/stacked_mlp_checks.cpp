#include "ops/stacked_mlp_checks.h"

#include "ops/cpu_kernels.h"

namespace tom {

using at::Tensor;
using at::TensorList;

namespace {

// Whether a weight of this type goes with x: of its type, or bfloat16 beside float32.
bool is_weight_type(at::ScalarType type, const Tensor& x) {
  if (type != at::kBFloat16 || x.scalar_type() != at::kFloat) return type == x.scalar_type();
  check_bfloat16(x, "stacked_mlp: bfloat16 weights were given");
  return true;
}

void check_layer(const Tensor& x, const Tensor& weight, const Tensor& bias, size_t layer,
                 int64_t inputs) {
  TORCH_CHECK_VALUE(weight.dim() == 4 && weight.size(0) == x.size(0) && weight.size(1) > 0 &&
                        weight.size(2) == inputs,
                    "stacked_mlp: weights[", layer, "] has shape ", weight.sizes(),
                    "; it must be [S, M, in, out] with S = ", x.size(0),
                    " as in x, M >= 1 and in = ", inputs, ", the width of what it is applied to.");
  TORCH_CHECK_VALUE(bias.dim() == 3 && bias.size(0) == weight.size(0) &&
                        bias.size(1) == weight.size(1) && bias.size(2) == weight.size(3),
                    "stacked_mlp: biases[", layer, "] has shape ", bias.sizes(),
                    "; it must be [S, M, out] to fit weights[", layer, "] of shape ",
                    weight.sizes(), ".");
  for (const Tensor* t : {&weight, &bias}) {
    const bool fits = t == &weight ? is_weight_type(weight.scalar_type(), x)
                                   : bias.scalar_type() == x.scalar_type();
    TORCH_CHECK_VALUE(
        fits && t->device() == x.device(), "stacked_mlp: the parameters of layer ", layer, " are ",
        t->scalar_type(), " on ", t->device(), ", but x is ", x.scalar_type(), " on ", x.device(),
        "; all must be alike, save that weights may be BFloat16 where the rest is Float.");
  }
}

}  // namespace

void check_stack(const Tensor& x, TensorList weights, TensorList biases) {
  TORCH_CHECK_VALUE(x.dim() == 4, "stacked_mlp: x has shape ", x.sizes(),
                    "; it must be [S, M, B, I] (seeds, members or 1, batch, inputs).");
  TORCH_CHECK_VALUE(at::isFloatingType(x.scalar_type()), "stacked_mlp: x is ", x.scalar_type(),
                    "; it must be of a floating-point type.");
  TORCH_CHECK_VALUE(!weights.empty() && weights.size() == biases.size(), "stacked_mlp: got ",
                    weights.size(), " weights and ", biases.size(),
                    " biases; there must be one of each per layer, and at least one layer.");
  int64_t inputs = x.size(3);
  for (size_t l = 0; l < weights.size(); ++l) {
    check_layer(x, weights[l], biases[l], l, inputs);
    TORCH_CHECK_VALUE(weights[l].size(1) == weights[0].size(1), "stacked_mlp: weights[", l,
                      "] has ", weights[l].size(1), " members and weights[0] has ",
                      weights[0].size(1), "; every layer must have the same M.");
    inputs = weights[l].size(3);
  }
  TORCH_CHECK_VALUE(x.size(1) == 1 || x.size(1) == weights[0].size(1),
                    "stacked_mlp: x has M = ", x.size(1),
                    " and the weights have M = ", weights[0].size(1),
                    "; x must have the same M, or 1 to be shared by all members of a seed.");
}

void check_stack_backward(const Tensor& grad_out, const Tensor& x, TensorList weights,
                          TensorList saved, Activation activation) {
  const size_t hidden = weights.empty() ? 0 : weights.size() - 1;
  const size_t kept = activation == Activation::silu ? 2 * hidden : hidden;
  TORCH_CHECK_VALUE(
      !weights.empty() && saved.size() == kept, "stacked_mlp_backward: got ", weights.size(),
      " weights and ", saved.size(),
      " saved tensors; there must be at least one layer, and what stacked_mlp saved, ",
      "for these weights ", kept, ".");
  TORCH_CHECK_VALUE(at::isFloatingType(x.scalar_type()), "stacked_mlp_backward: x is ",
                    x.scalar_type(), "; it must be of a floating-point type.");
  std::vector<int64_t> shape = x.sizes().vec();
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor& w = weights[l];
    const bool fits = x.dim() == 4 && w.dim() == 4 && w.size(0) == x.size(0) && w.size(1) > 0 &&
                      (w.size(1) == shape[1] || (l == 0 && x.size(1) == 1)) &&
                      w.size(2) == shape[3];
    TORCH_CHECK_VALUE(fits, "stacked_mlp_backward: weights[", l, "] has shape ", w.sizes(),
                      "; it must be [S, M, in, out] with M >= 1 and fit x of shape ", x.sizes(),
                      ".");
    TORCH_CHECK_VALUE(is_weight_type(w.scalar_type(), x) && w.device() == x.device(),
                      "stacked_mlp_backward: weights[", l, "] is ", w.scalar_type(), " on ",
                      w.device(), "; it must be ", x.scalar_type(), " on ", x.device(), ".");
    shape = {w.size(0), w.size(1), x.size(2), w.size(3)};
  }
  for (size_t s = 0; s < saved.size(); ++s) {
    const size_t l = s % hidden;
    const std::vector<int64_t> saved_shape{shape[0], shape[1], shape[2], weights[l].size(3)};
    TORCH_CHECK_VALUE(saved[s].sizes() == saved_shape, "stacked_mlp_backward: saved[", s,
                      "] has shape ", saved[s].sizes(), "; it must be ",
                      at::IntArrayRef(saved_shape), ".");
    // A value has the type that the next product reads, a residual that of its own product.
    const at::ScalarType type = weights[s < hidden ? l + 1 : l].scalar_type();
    TORCH_CHECK_VALUE(saved[s].scalar_type() == type && saved[s].device() == x.device(),
                      "stacked_mlp_backward: saved[", s, "] is ", saved[s].scalar_type(), " on ",
                      saved[s].device(), "; it must be ", type, " on ", x.device(), ".");
  }
  TORCH_CHECK_VALUE(grad_out.sizes() == shape, "stacked_mlp_backward: grad_out has shape ",
                    grad_out.sizes(), "; it must be ", at::IntArrayRef(shape), ".");
  TORCH_CHECK_VALUE(grad_out.scalar_type() == x.scalar_type() && grad_out.device() == x.device(),
                    "stacked_mlp_backward: grad_out is ", grad_out.scalar_type(), " on ",
                    grad_out.device(), "; it must be ", x.scalar_type(), " on ", x.device(),
                    " as x.");
}

}  // namespace tom
