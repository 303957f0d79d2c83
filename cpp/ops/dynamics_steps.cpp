// tom::dynamics_steps: an epoch of weighted maximum likelihood for the ensemble in one call.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

#include "ops/cpu_kernels.h"
#include "ops/fused_kernels.h"
#include "ops/gaussian_nll.h"
#include "ops/seed_groups.h"
#include "ops/trained_stack.h"

namespace tom {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

void check(const Tensor& inputs, const Tensor& targets, const Tensor& weights, TensorList network) {
  TORCH_CHECK_VALUE(inputs.dim() == 5 && inputs.numel() > 0, "dynamics_steps: inputs has shape ",
                    inputs.sizes(), "; it must be [K, S, M, B, I] (steps, seeds, members, batch, ",
                    "inputs), and not empty.");
  TORCH_CHECK_VALUE(targets.dim() == 5 && targets.numel() > 0 &&
                        targets.sizes().slice(0, 4) == inputs.sizes().slice(0, 4),
                    "dynamics_steps: targets has shape ", targets.sizes(),
                    "; it must be [K, S, M, B, D] with D >= 1 to fit inputs of shape ",
                    inputs.sizes(), ".");
  TORCH_CHECK_VALUE(weights.sizes() == inputs.sizes().slice(0, 4), "dynamics_steps: weights has ",
                    "shape ", weights.sizes(), "; it must be ", inputs.sizes().slice(0, 4), ".");
  check_alike(inputs, network, "dynamics_steps: inputs");
  check_alike(targets, network, "dynamics_steps: targets");
  check_alike(weights, network, "dynamics_steps: weights");
}

using FusedSteps = Tensor(const Tensor&, const Tensor&, const Tensor&, TensorList, IntArrayRef,
                          double, double, double, std::string_view);

const auto& fused_op() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::dynamics_steps_fused", "")
                             .typed<FusedSteps>();
  return op;
}

bool takes_fused(const Tensor& inputs, int64_t outputs, IntArrayRef hidden, Precision precision) {
  const int64_t stacks = inputs.size(1) * inputs.size(2);
  const int64_t numbers =
      static_cast<int64_t>(hidden.size()) * kWidestFused * stacks * inputs.size(3);
  return hidden.size() >= 2 && hidden[0] <= kWidestFused && outputs <= kWidestFusedGaussian &&
         inputs.size(3) <= kLongestFusedBatch && can_be_counted(stacks, numbers) &&
         std::all_of(hidden.begin(), hidden.end(), [&](int64_t n) { return n == hidden[0]; }) &&
         has_fused_kernel(fused_op(), inputs, precision);
}

// The steps of a group of seeds whose network is `network`.
Tensor group_steps(const Tensor& inputs, const Tensor& targets, const Tensor& weights,
                   TensorList network, IntArrayRef sizes, const AdamSettings& adam,
                   double log_var_penalty, Precision precision) {
  const int64_t steps = inputs.size(0), seeds = inputs.size(1), members = inputs.size(2);
  const int64_t outputs = targets.size(4);
  const int64_t bounds = seeds * members * outputs;
  TrainedStack ensemble(network, "network", seeds, members, sizes, Activation::silu, precision,
                        2 * bounds);
  const std::vector<int64_t> shape{seeds, members, outputs};
  const Tensor low = ensemble.extra(0, shape), high = ensemble.extra(bounds, shape);
  Tensor low_gradient = ensemble.extra_gradient(0, shape);
  Tensor high_gradient = ensemble.extra_gradient(bounds, shape);

  const bool native = takes_float_kernels(inputs);
  Tensor total = at::zeros({seeds}, inputs.options());
  for (int64_t k = 0; k < steps; ++k) {
    const Tensor out = ensemble.forward(inputs[k]);
    const NllArguments arguments{out.narrow(3, 0, outputs),
                                 out.narrow(3, outputs, outputs),
                                 low,
                                 high,
                                 targets[k],
                                 weights[k]};
    const Nll nll = native ? gaussian_nll_cpu(arguments, /*need_gradients=*/true)
                           : gaussian_nll(arguments, /*need_gradients=*/true);
    ensemble.backward(at::cat({nll.gradients[0], nll.gradients[1]}, 3));
    // The loss has log_var_penalty * sum(high - low) beside the likelihood. What Adam will add for
    // its weight decay is taken away beforehand: that is the layers' alone.
    low_gradient.copy_(nll.gradients[2]).sub_(log_var_penalty).sub_(low, adam.weight_decay);
    high_gradient.copy_(nll.gradients[3]).add_(log_var_penalty).sub_(high, adam.weight_decay);
    ensemble.step(adam);
    total.add_(nll.loss.mean(1));
  }
  return total.div_(static_cast<double>(steps));
}

Tensor dynamics_steps(const Tensor& inputs, const Tensor& targets, const Tensor& weights,
                      TensorList network, IntArrayRef hidden, double learning_rate,
                      double weight_decay, double log_var_penalty, std::string_view precision,
                      bool fused) {
  check(inputs, targets, weights, network);
  const int64_t members = inputs.size(2), outputs = targets.size(4);
  std::vector<int64_t> sizes{inputs.size(4)};
  sizes.insert(sizes.end(), hidden.begin(), hidden.end());
  sizes.push_back(2 * outputs);
  const int64_t bounds = members * outputs;
  const std::vector<StackedState> states{
      {network.vec(), segments_of(members, sizes, {bounds, bounds})}};
  const int64_t widths = std::accumulate(hidden.begin(), hidden.end(), int64_t{0});
  const bool by_fused = fused && takes_fused(inputs, outputs, hidden, precision_from(precision));
  const auto steps = [&](int64_t first, int64_t count, const States& group) -> Results {
    if (by_fused) {
      adam_state(group[0], "network", states[0].numbers(count));  // raises where it does not fit
      return {fused_op().call(inputs.narrow(1, first, count), targets.narrow(1, first, count),
                              weights.narrow(1, first, count), group[0], hidden, learning_rate,
                              weight_decay, log_var_penalty, precision)};
    }
    return {group_steps(inputs.narrow(1, first, count), targets.narrow(1, first, count),
                        weights.narrow(1, first, count), group[0], sizes,
                        {learning_rate, weight_decay}, log_var_penalty, precision_from(precision))};
  };
  return for_seed_groups(inputs.size(1), states, members * inputs.size(3) * widths,
                         /*seed_axis=*/0, steps)[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) { m.impl("dynamics_steps", dynamics_steps); }

}  // namespace tom
