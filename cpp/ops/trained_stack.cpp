#include "ops/trained_stack.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

namespace tom {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

namespace {

Tensor view_at(const Tensor& flat, int64_t offset, IntArrayRef shape) {
  return flat.narrow(0, offset, c10::multiply_integers(shape)).view(shape);
}

}  // namespace

Layers layers_in(const Tensor& flat, int64_t seeds, int64_t members, IntArrayRef sizes) {
  Layers layers;
  int64_t at = 0;
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    const std::vector<int64_t> weight{seeds, members, sizes[l], sizes[l + 1]};
    layers.weights.push_back(view_at(flat, at, weight));
    at += layers.weights.back().numel();
    const std::vector<int64_t> bias{seeds, members, sizes[l + 1]};
    layers.biases.push_back(view_at(flat, at, bias));
    at += layers.biases.back().numel();
  }
  return layers;
}

void check_alike(const Tensor& t, TensorList state, const char* name) {
  TORCH_CHECK_VALUE(!state.empty(), name, " comes with a network of no tensors; it must be ",
                    "[flat, gradient, exp_avg, exp_avg_sq, step].");
  const Tensor& parameters = state[0];
  TORCH_CHECK_VALUE(
      t.scalar_type() == parameters.scalar_type() && t.device() == parameters.device(), name,
      " is ", t.scalar_type(), " on ", t.device(), "; it must be ", parameters.scalar_type(),
      " on ", parameters.device(), " as the parameters.");
  TORCH_CHECK_VALUE(!(t.requires_grad() && at::GradMode::is_enabled()), name,
                    " requires gradients, which the steps do not compute; pass it detached.");
}

Followers::Followers(const Tensor& flat, int64_t seeds, int64_t members, IntArrayRef sizes,
                     double rate, Precision precision)
    : flat_(flat),
      rate_(rate),
      layers_(layers_in(flat, seeds, members, sizes)),
      product_weights_(flat, layers_, precision) {}

void Followers::follow(const Tensor& leader, int64_t begin, int64_t end) {
  average_in_place(flat_, leader, rate_, begin, end);
  product_weights_.refresh(begin, end);
}

TrainedStack::TrainedStack(TensorList state, const char* name, int64_t seeds, int64_t members,
                           IntArrayRef sizes, Activation activation, Precision precision,
                           int64_t extras)
    : activation_(activation) {
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    layers_end_ += seeds * members * (sizes[l] + 1) * sizes[l + 1];
  }
  state_ = adam_state(state, name, layers_end_ + extras);
  layers_ = layers_in(state_.flat, seeds, members, sizes);
  gradients_ = layers_in(state_.gradient, seeds, members, sizes);
  product_weights_.emplace(state_.flat, layers_, precision);
}

Tensor TrainedStack::forward(const Tensor& x) {
  x_ = x;
  const Tensor out = mlp_forward(x, product_weights(), layers_.biases, activation_, &memory_);
  hiddens_ = memory_;
  return out;
}

void TrainedStack::keep_rows(int64_t rows) {
  x_ = x_.narrow(2, 0, rows);
  for (Tensor& value : hiddens_.values) value = value.narrow(2, 0, rows);
  for (Tensor& residual : hiddens_.residuals) residual = residual.narrow(2, 0, rows);
}

void TrainedStack::backward(const Tensor& grad_out) {
  mlp_backward(grad_out, x_, product_weights(), hiddens_.values, hiddens_.residuals, activation_,
               {}, &gradients_, row_gradients_);
}

Tensor TrainedStack::backward_to_input(const Tensor& grad_out, InputColumns columns) {
  return mlp_backward(grad_out, x_, product_weights(), hiddens_.values, hiddens_.residuals,
                      activation_, columns, nullptr, row_gradients_);
}

void TrainedStack::step(const AdamSettings& settings, Followers* followers) {
  adam_step(state_, settings, [&](int64_t begin, int64_t end) {
    product_weights_->refresh(begin, end);
    if (followers != nullptr) followers->follow(state_.flat, begin, end);
  });
}

Tensor TrainedStack::extra(int64_t offset, IntArrayRef shape) const {
  return view_at(state_.flat, layers_end_ + offset, shape);
}

Tensor TrainedStack::extra_gradient(int64_t offset, IntArrayRef shape) const {
  return view_at(state_.gradient, layers_end_ + offset, shape);
}

}  // namespace tom
