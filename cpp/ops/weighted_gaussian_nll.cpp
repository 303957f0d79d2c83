// tom::weighted_gaussian_nll: the operator around gaussian_nll.h; checks, weights and autograd.

#include <ATen/TensorOperators.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>

#include "ops/cpu_kernels.h"
#include "ops/gaussian_nll.h"

namespace tom {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using OptionalTensor = std::optional<Tensor>;

// ---------------------------------------------------------------------------------------------
// Kernel

// [S, M, trailing...] or, where members may share, [S, 1, trailing...].
bool fits(const Tensor& t, const Tensor& mean, at::IntArrayRef trailing, bool may_share) {
  return t.dim() == static_cast<int64_t>(2 + trailing.size()) && t.size(0) == mean.size(0) &&
         (t.size(1) == mean.size(1) || (may_share && t.size(1) == 1)) &&
         t.sizes().slice(2) == trailing;
}

void check(const NllArguments& a) {
  const Tensor& mean = a.mean;
  TORCH_CHECK_VALUE(mean.dim() == 4 && mean.size(3) > 0 && at::isFloatingType(mean.scalar_type()),
                    "weighted_gaussian_nll: mean is ", mean.scalar_type(), " of shape ",
                    mean.sizes(), "; it must be of a floating-point type and shape [S, M, B, D]",
                    " (seeds, members, batch, dimensions) with D >= 1.");
  const int64_t rows = mean.size(2), columns = mean.size(3);
  const auto require = [&](const Tensor& t, const char* name, at::IntArrayRef trailing,
                           bool may_share, const char* shape) {
    TORCH_CHECK_VALUE(fits(t, mean, trailing, may_share), "weighted_gaussian_nll: ", name,
                      " has shape ", t.sizes(), "; it must be ", shape, " to fit mean of shape ",
                      mean.sizes(), ".");
    TORCH_CHECK_VALUE(t.scalar_type() == mean.scalar_type() && t.device() == mean.device(),
                      "weighted_gaussian_nll: ", name, " is ", t.scalar_type(), " on ", t.device(),
                      ", but mean is ", mean.scalar_type(), " on ", mean.device(),
                      "; all must be alike.");
  };
  require(a.log_var, "log_var", {rows, columns}, false, "[S, M, B, D]");
  require(a.min_log_var, "min_log_var", {columns}, false, "[S, M, D]");
  require(a.max_log_var, "max_log_var", {columns}, false, "[S, M, D]");
  require(a.target, "target", {rows, columns}, true, "[S, M, B, D] or [S, 1, B, D]");
  require(a.weight, "weight (or delta)", {rows}, true, "[S, M, B] or [S, 1, B]");
}

std::tuple<Tensor, Tensors> forward(const Tensor& mean, const Tensor& log_var,
                                    const Tensor& min_log_var, const Tensor& max_log_var,
                                    const Tensor& target, const Tensor& weight,
                                    bool need_gradients) {
  const NllArguments arguments{mean, log_var, min_log_var, max_log_var, target, weight};
  check(arguments);
  Nll nll = takes_float_kernels(mean) ? gaussian_nll_cpu(arguments, need_gradients)
                                      : gaussian_nll(arguments, need_gradients);
  return {nll.loss, nll.gradients};
}

auto& forward_op() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::weighted_gaussian_nll_forward", "")
                             .typed<decltype(forward)>();
  return op;
}

// ---------------------------------------------------------------------------------------------
// Autograd. The gradients come out of the forward pass; the way back only scales them.

// Whether every number is known to be one, as where the losses are added up; false where to look
// would wait for another device.
bool is_one(const Tensor& grad) {
  // Of these the memory does not hold the numbers, or there is none.
  if (!takes_float_kernels(grad) || grad.is_neg() || grad._is_zerotensor()) return false;
  const Tensor numbers = grad.to(at::kDouble);
  const auto all = numbers.accessor<double, 2>();
  bool one = true;
  for (int64_t s = 0; s < all.size(0); ++s) {
    for (int64_t m = 0; m < all.size(1); ++m) one &= all[s][m] == 1;
  }
  return one;
}

struct WeightedGaussianNll : torch::autograd::Function<WeightedGaussianNll> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& mean,
                        const Tensor& log_var, const Tensor& min_log_var, const Tensor& max_log_var,
                        const Tensor& target, const Tensor& weight) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, gradients] =
        forward_op().call(mean, log_var, min_log_var, max_log_var, target, weight, true);
    Tensors saved{mean, log_var, min_log_var, max_log_var, target, weight};
    saved.insert(saved.end(), gradients.begin(), gradients.end());
    ctx->save_for_backward(std::move(saved));
    return loss;
  }

  static Tensors backward(torch::autograd::AutogradContext* ctx, const Tensors& grad_outs) {
    const Tensors saved = ctx->get_saved_variables();
    Tensors gradients(saved.begin() + 6, saved.end());
    if (at::GradMode::is_enabled()) {  // a gradient of this gradient will be asked for
      gradients = gaussian_nll({saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]}, true)
                      .gradients;
    }
    // They may be handed out themselves, unless the graph is kept for another way back, or what
    // runs is a trace or a transformation of it.
    const bool ours = !at::GradMode::is_enabled() && !at::isTensorSubclassLike(grad_outs[0]) &&
                      !torch::autograd::get_current_graph_task_keep_graph();
    const bool scaled = !ours || !is_one(grad_outs[0]);
    const Tensor scale = scaled ? grad_outs[0].unsqueeze(2) : Tensor();  // [S, M, 1]
    Tensors grads(6);
    for (size_t i = 0; i < 4; ++i) {
      if (!ctx->needs_input_grad(i)) continue;
      grads[i] = gradients[i];
      if (!scaled) continue;
      const Tensor& factor = i < 2 ? scale.unsqueeze(3) : scale;
      grads[i] = ours ? grads[i].mul_(factor) : grads[i] * factor;
    }
    return grads;
  }
};

// ---------------------------------------------------------------------------------------------
// Operator

using Result = std::tuple<Tensor, Tensor, Tensor>;

// Checks all shapes and types, with delta in the weights' place: it is of theirs.
void check(const Tensor& mean, const Tensor& log_var, const Tensor& min_log_var,
           const Tensor& max_log_var, const Tensor& target, const OptionalTensor& weight,
           const OptionalTensor& delta) {
  TORCH_CHECK_VALUE(weight.has_value() != delta.has_value(), "weighted_gaussian_nll: got ",
                    weight.has_value() ? "both weight and delta" : "neither weight nor delta",
                    "; give exactly one of them.");
  check({mean, log_var, min_log_var, max_log_var, target, weight.has_value() ? *weight : *delta});
}

// The weights, their effective sample size and the fraction of them that was clipped.
Result weights_from(const OptionalTensor& weight, const OptionalTensor& delta,
                    std::string_view divergence, double max_weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::occupancy_weights", "")
                             .typed<Result(const Tensor&, std::string_view, double)>();
  static const auto sample_size_op = c10::Dispatcher::singleton()
                                         .findSchemaOrThrow("tom::effective_sample_size", "")
                                         .typed<Tensor(const Tensor&)>();
  if (delta.has_value()) return op.call(*delta, divergence, max_weight);
  const Tensor weights = weight->detach(), ess = sample_size_op.call(weights);
  return {weights, ess, at::zeros_like(ess)};
}

Result call(const Tensor& mean, const Tensor& log_var, const Tensor& min_log_var,
            const Tensor& max_log_var, const Tensor& target, const OptionalTensor& weight,
            const OptionalTensor& delta, std::string_view divergence, double max_weight) {
  check(mean, log_var, min_log_var, max_log_var, target, weight, delta);
  const auto [weights, ess, clipped] = weights_from(weight, delta, divergence, max_weight);
  const Tensor loss = std::get<0>(
      forward_op().call(mean, log_var, min_log_var, max_log_var, target, weights, false));
  return {loss, ess, clipped};
}

Result call_autograd(const Tensor& mean, const Tensor& log_var, const Tensor& min_log_var,
                     const Tensor& max_log_var, const Tensor& target, const OptionalTensor& weight,
                     const OptionalTensor& delta, std::string_view divergence, double max_weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::weighted_gaussian_nll", "")
                             .typed<decltype(call)>();
  bool has_direction = false;  // in forward mode
  for (const Tensor* t : {&mean, &log_var, &min_log_var, &max_log_var}) {
    has_direction |= t->_fw_grad(/*level=*/0).defined();
  }
  if (!has_direction &&
      (!at::GradMode::is_enabled() ||
       !torch::autograd::compute_requires_grad(mean, log_var, min_log_var, max_log_var))) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return op.call(mean, log_var, min_log_var, max_log_var, target, weight, delta, divergence,
                   max_weight);
  }
  check(mean, log_var, min_log_var, max_log_var, target, weight, delta);
  const auto [weights, ess, clipped] = [&] {
    at::AutoDispatchBelowADInplaceOrView guard;  // the weights are constants
    return weights_from(weight, delta, divergence, max_weight);
  }();
  if (has_direction) {
    const NllArguments arguments{mean, log_var, min_log_var, max_log_var, target, weights};
    return {gaussian_nll(arguments, /*need_gradients=*/false).loss, ess, clipped};
  }
  const Tensor loss =
      WeightedGaussianNll::apply(mean, log_var, min_log_var, max_log_var, target, weights);
  return {loss, ess, clipped};
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) {
  m.impl("weighted_gaussian_nll", call);
  m.impl("weighted_gaussian_nll_forward", forward);
}

TORCH_LIBRARY_IMPL(tom, Autograd, m) { m.impl("weighted_gaussian_nll", call_autograd); }

}  // namespace tom
