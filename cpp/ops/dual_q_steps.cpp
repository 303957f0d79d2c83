// tom::dual_q_steps: minibatch steps on the dual objective (22) in one call.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

#include "ops/fused_kernels.h"
#include "ops/occupancy_weights.h"
#include "ops/seed_groups.h"
#include "ops/trained_stack.h"

namespace tom {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

void check(const Tensor& inputs, const Tensor& rewards, const Tensor& go_on, int64_t samples,
           TensorList network) {
  TORCH_CHECK_VALUE(rewards.dim() == 3 && rewards.numel() > 0, "dual_q_steps: rewards has shape ",
                    rewards.sizes(), "; it must be [K, S, B] (steps, seeds, batch), not empty.");
  TORCH_CHECK_VALUE(go_on.sizes() == rewards.sizes(), "dual_q_steps: go_on has shape ",
                    go_on.sizes(), "; it must be ", rewards.sizes(), " as rewards.");
  TORCH_CHECK_VALUE(samples >= 1, "dual_q_steps: samples is ", samples, "; it must be at least 1.");
  const int64_t rows = rewards.size(2) * (1 + 2 * samples);
  TORCH_CHECK_VALUE(inputs.dim() == 4 && inputs.size(0) == rewards.size(0) &&
                        inputs.size(1) == rewards.size(1) && inputs.size(2) == rows,
                    "dual_q_steps: inputs has shape ", inputs.sizes(), "; it must be [",
                    rewards.size(0), ", ", rewards.size(1), ", ", rows, ", I]: (s, a), then ",
                    samples, " actions in each s' and in each s0.");
  check_alike(inputs, network, "dual_q_steps: inputs");
  check_alike(rewards, network, "dual_q_steps: rewards");
  check_alike(go_on, network, "dual_q_steps: go_on");
}

// V is the mean over `samples` neighbouring rows of q [S, B * samples].
Tensor mean_over_samples(const Tensor& q, int64_t samples) {
  return samples == 1 ? q : q.view({q.size(0), -1, samples}).mean(2);
}

// Each sample takes its share of V's gradient [S, B]: [S, B * samples].
Tensor spread_over_samples(const Tensor& grad, int64_t samples) {
  if (samples == 1) return grad;
  return grad.unsqueeze(2).expand({-1, -1, samples}).reshape({grad.size(0), -1}).div(samples);
}

using FusedSteps = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                              TensorList, IntArrayRef, int64_t, std::string_view,
                                              bool, bool, double, double, double, std::string_view);

const auto& fused_op() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::dual_q_steps_fused", "")
                             .typed<FusedSteps>();
  return op;
}

bool takes_fused(const Tensor& inputs, int64_t starts, IntArrayRef hidden,
                 std::string_view divergence, Precision precision) {
  return hidden.size() == 2 && starts <= kLongestFusedBatch &&
         can_be_counted(inputs.size(1), kWidestFused * inputs.size(1) * inputs.size(2)) &&
         std::max(hidden[0], hidden[1]) <= kWidestFused &&
         (divergence == "chi2" || divergence == "chi2_bound") &&
         has_fused_kernel(fused_op(), inputs, precision);
}

struct Settings {
  int64_t samples;
  std::string_view divergence;
  bool quadratic, restart;
  double discount, learning_rate, l2;
};

// The steps of a group of seeds whose network is `network`.
std::tuple<Tensor, Tensor> group_steps(const Tensor& inputs, const Tensor& rewards,
                                       const Tensor& go_on, TensorList network, IntArrayRef sizes,
                                       const Settings& settings, Precision precision) {
  const auto [samples, divergence, quadratic, restart, discount, learning_rate, l2] = settings;
  const int64_t steps = rewards.size(0), seeds = rewards.size(1), batch = rewards.size(2);
  TrainedStack q_network(network, "network", seeds, 1, sizes, Activation::relu, precision);
  const double each = 1.0 / static_cast<double>(batch);
  const double each_start = 1.0 / static_cast<double>(batch * samples);
  const Tensor grad_of_start_term =
      at::full({seeds, batch * samples}, (1 - discount) * each_start, inputs.options());

  std::vector<Tensor> deltas, start_values;
  for (int64_t k = 0; k < steps; ++k) {
    const Tensor out = q_network.forward(inputs[k].unsqueeze(1)).view({seeds, -1});
    const Tensor q = out.narrow(1, 0, batch);
    const Tensor next = mean_over_samples(out.narrow(1, batch, batch * samples), samples);
    const Tensor start = out.narrow(1, batch * (1 + samples), batch * samples).mean(1, true);
    const Tensor weight = go_on[k] * discount;
    const Tensor weight_of_start = discount - weight;  // after a terminal row, under the restart
    Tensor delta = rewards[k] + weight * next - q;
    if (restart) delta.addcmul_(weight_of_start, start);
    const Tensor slope = conjugate_slope(delta, divergence, quadratic) * each;  // dL/d delta
    Tensor grad_start = grad_of_start_term;
    if (restart) {
      grad_start = grad_start + (weight_of_start * slope).sum(1, true).mul_(each_start);
    }
    const Tensor grad =
        at::cat({slope.neg(), spread_over_samples(weight * slope, samples), grad_start}, 1);
    q_network.backward(grad.view({seeds, 1, -1, 1}));
    for (size_t l = 0; l + 1 < sizes.size(); ++l) {
      q_network.gradients().weights[l].add_(q_network.layers().weights[l], 2 * l2);
    }
    q_network.step({learning_rate});
    deltas.push_back(delta);
    start_values.push_back(start.squeeze(1));
  }
  return {at::stack(deltas), at::stack(start_values)};
}

std::tuple<Tensor, Tensor> dual_q_steps(const Tensor& inputs, const Tensor& rewards,
                                        const Tensor& go_on, TensorList network, IntArrayRef hidden,
                                        int64_t samples, std::string_view divergence,
                                        bool quadratic, bool restart, double discount,
                                        double learning_rate, double l2, std::string_view precision,
                                        bool fused) {
  check(inputs, rewards, go_on, samples, network);
  std::vector<int64_t> sizes{inputs.size(3)};
  sizes.insert(sizes.end(), hidden.begin(), hidden.end());
  sizes.push_back(1);
  const Settings settings{samples, divergence, quadratic, restart, discount, learning_rate, l2};
  const std::vector<StackedState> states{{network.vec(), segments_of(1, sizes)}};
  const int64_t widths = std::accumulate(hidden.begin(), hidden.end(), int64_t{0});
  const bool by_fused = fused && takes_fused(inputs, rewards.size(2) * samples, hidden, divergence,
                                             precision_from(precision));
  const auto steps = [&](int64_t first, int64_t count, const States& group) -> Results {
    if (by_fused) {
      adam_state(group[0], "network", states[0].numbers(count));  // raises where it does not fit
      const auto [delta, start_value] =
          fused_op().call(inputs.narrow(1, first, count), rewards.narrow(1, first, count),
                          go_on.narrow(1, first, count), group[0], hidden, samples, divergence,
                          quadratic, restart, discount, learning_rate, l2, precision);
      return {delta, start_value};
    }
    const auto [delta, start_value] = group_steps(
        inputs.narrow(1, first, count), rewards.narrow(1, first, count),
        go_on.narrow(1, first, count), group[0], sizes, settings, precision_from(precision));
    return {delta, start_value};
  };
  const Results results = for_seed_groups(rewards.size(1), states, inputs.size(2) * widths,
                                          /*seed_axis=*/1, steps);
  return {results[0], results[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) { m.impl("dual_q_steps", dual_q_steps); }

}  // namespace tom
