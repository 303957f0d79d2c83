// tom::stacked_mlp: S x M multilayer perceptrons at once, forward and backward as one autograd
// node.

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/cpu_kernels.h"
#include "ops/mlp.h"
#include "ops/stacked_mlp_checks.h"

namespace tom {
namespace {

using at::Tensor;
using at::TensorList;
using Tensors = std::vector<Tensor>;

// ---------------------------------------------------------------------------------------------
// Kernels. saved = [value of each hidden layer ..., and where that is another tensor, its residual
// ...].

std::tuple<Tensor, Tensors> forward(const Tensor& x, TensorList weights, TensorList biases,
                                    std::string_view activation_name, bool save) {
  const Activation activation = activation_from(activation_name);
  check_stack(x, weights, biases);
  Hiddens hiddens;
  const Tensor out = mlp_forward(x, weights, biases, activation, save ? &hiddens : nullptr);
  Tensors saved = hiddens.values;
  for (size_t l = 0; l < hiddens.values.size(); ++l) {
    if (!hiddens.residuals[l].is_same(hiddens.values[l])) saved.push_back(hiddens.residuals[l]);
  }
  return {out, saved};
}

Tensors backward(const Tensor& grad_out, const Tensor& x, TensorList weights, TensorList saved,
                 std::string_view activation_name, bool need_x, bool need_parameters) {
  const Activation activation = activation_from(activation_name);
  check_stack_backward(grad_out, x, weights, saved, activation);
  const size_t layers = weights.size();
  Tensors rows;  // contiguous, as the kernels read them
  for (const Tensor& t : saved) rows.push_back(t.contiguous());
  const TensorList values = rows;
  Layers grads;
  for (size_t l = 0; need_parameters && l < layers; ++l) {
    grads.weights.push_back(at::empty(weights[l].sizes(), weights[l].options()));
    grads.biases.push_back(
        at::empty({weights[l].size(0), weights[l].size(1), weights[l].size(3)}, x.options()));
  }
  RowGradients memory;
  const Tensor grad_x = mlp_backward(
      grad_out, x, weights, values, values.slice(values.size() - (layers - 1)), activation,
      {0, need_x ? x.size(3) : 0}, need_parameters ? &grads : nullptr, memory);
  Tensors result;
  if (need_x) result.push_back(grad_x.contiguous());
  result.insert(result.end(), grads.weights.begin(), grads.weights.end());
  result.insert(result.end(), grads.biases.begin(), grads.biases.end());
  return result;
}

// ---------------------------------------------------------------------------------------------
// The backward as a composition of differentiable operations, for gradients of gradients. The
// hidden layers are computed again, because the saved ones are not connected to the graph.

Hidden differentiable_activation(const Tensor& z, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return {at::relu(z), z.gt(0).to(z.scalar_type())};
    case Activation::tanh: {
      const Tensor value = at::tanh(z);
      return {value, 1 - value * value};
    }
    default: {
      const Tensor sigmoid = at::sigmoid(z);
      return {z * sigmoid, sigmoid * (1 + z * (1 - sigmoid))};
    }
  }
}

Tensor differentiable_layer(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return at::matmul(x.to(weight.scalar_type()), weight) + bias.unsqueeze(2);
}

// The forward in the same operations, for derivatives in a direction (forward mode).
Tensor differentiable_forward(const Tensor& x, TensorList weights, TensorList biases,
                              Activation activation) {
  Tensor value = x;
  for (size_t l = 0; l + 1 < weights.size(); ++l) {
    value =
        differentiable_activation(differentiable_layer(value, weights[l], biases[l]), activation)
            .value;
  }
  return differentiable_layer(value, weights.back(), biases.back());
}

Tensors differentiable_backward(const Tensor& grad_out, const Tensor& x, TensorList weights,
                                TensorList biases, Activation activation, bool need_x,
                                bool need_parameters) {
  const size_t layers = weights.size();
  Tensors inputs{x}, slopes;
  for (size_t l = 0; l + 1 < layers; ++l) {
    auto [value, slope] = differentiable_activation(
        differentiable_layer(inputs.back(), weights[l], biases[l]), activation);
    inputs.push_back(value);
    slopes.push_back(slope);
  }
  Tensors grads(1 + 2 * layers);
  Tensor grad = grad_out;
  for (size_t l = layers; l-- > 0;) {
    const auto type = weights[l].scalar_type();
    if (l + 1 < layers) grad = grad * slopes[l];
    if (need_parameters) grads[1 + layers + l] = at::sum(grad, 2);
    grad = grad.to(type);
    if (need_parameters) {
      grads[1 + l] = at::matmul(inputs[l].to(type).transpose(2, 3), grad);
    }
    if (l > 0 || need_x) grad = at::matmul(grad, weights[l].transpose(2, 3)).to(x.scalar_type());
  }
  if (need_x) grads[0] = x.size(1) == grad.size(1) ? grad : at::sum(grad, 1, /*keepdim=*/true);
  return grads;
}

// ---------------------------------------------------------------------------------------------
// Autograd

Tensor call(const Tensor& x, TensorList weights, TensorList biases, std::string_view activation) {
  return std::get<0>(forward(x, weights, biases, activation, /*save=*/false));
}

struct StackedMlp : torch::autograd::Function<StackedMlp> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, TensorList weights,
                        TensorList biases, std::string_view activation) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("tom::stacked_mlp_forward", "")
                               .typed<decltype(tom::forward)>();
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, saved] = op.call(x, weights, biases, activation, /*save=*/true);
    Tensors all{x};
    all.insert(all.end(), weights.begin(), weights.end());
    all.insert(all.end(), biases.begin(), biases.end());
    all.insert(all.end(), saved.begin(), saved.end());
    ctx->save_for_backward(std::move(all));
    ctx->saved_data["layers"] = static_cast<int64_t>(weights.size());
    ctx->saved_data["activation"] = std::string(activation);
    ctx->saved_data["own_kernels"] = takes_cpu_kernels(x);
    return out;
  }

  static Tensors backward(torch::autograd::AutogradContext* ctx, const Tensors& grad_outs) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("tom::stacked_mlp_backward", "")
                               .typed<decltype(tom::backward)>();
    const auto layers = static_cast<size_t>(ctx->saved_data["layers"].toInt());
    const std::string activation = ctx->saved_data["activation"].toStringRef();
    const Tensors all = ctx->get_saved_variables();
    const Tensor& x = all[0];
    const TensorList weights(all.data() + 1, layers), biases(all.data() + 1 + layers, layers);
    const TensorList saved = TensorList(all).slice(1 + 2 * layers);
    // Asked of the running backward, not of requires_grad: torch.autograd.grad(loss, actor) passes
    // through the critics without computing gradients for their parameters.
    const bool need_x = ctx->needs_input_grad(0);
    bool need_parameters = false;
    for (size_t i = 1; i <= 2 * layers; ++i) need_parameters |= ctx->needs_input_grad(i);

    Tensors grads(2 + 2 * layers);  // x, weights, biases, activation
    if (at::GradMode::is_enabled()) {
      grads = differentiable_backward(grad_outs[0], x, weights, biases, activation_from(activation),
                                      need_x, need_parameters);
      grads.emplace_back();
      return grads;
    }
    TORCH_CHECK(
        takes_cpu_kernels(x) == ctx->saved_data["own_kernels"].toBool(),
        "stacked_mlp: tom_tests::use_cpu_kernels was switched between the forward pass and ",
        "its way back, which must take the same kernels; switch it back, or take the ",
        "forward pass again.");
    const Tensors needed =
        op.call(grad_outs[0], x, weights, saved, activation, need_x, need_parameters);
    size_t next = 0;
    if (need_x) grads[0] = needed[next++];
    for (size_t i = 1; need_parameters && i <= 2 * layers; ++i) grads[i] = needed[next++];
    return grads;
  }
};

Tensor call_autograd(const Tensor& x, TensorList weights, TensorList biases,
                     std::string_view activation) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::stacked_mlp", "")
                             .typed<decltype(call)>();
  const auto has_direction = [](const Tensor& t) { return t._fw_grad(/*level=*/0).defined(); };
  if (has_direction(x) || std::any_of(weights.begin(), weights.end(), has_direction) ||
      std::any_of(biases.begin(), biases.end(), has_direction)) {
    check_stack(x, weights, biases);
    return differentiable_forward(x, weights, biases, activation_from(activation));
  }
  if (at::GradMode::is_enabled() && torch::autograd::compute_requires_grad(x, weights, biases)) {
    return StackedMlp::apply(x, weights, biases, activation);
  }
  at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(x, weights, biases, activation);
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) {
  m.impl("stacked_mlp", call);
  m.impl("stacked_mlp_forward", forward);
  m.impl("stacked_mlp_backward", backward);
}

TORCH_LIBRARY_IMPL(tom, Autograd, m) { m.impl("stacked_mlp", call_autograd); }

}  // namespace tom
