// tom::discriminator_steps: steps of the discriminator (21) with its gradient penalty in one call.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include <numeric>
#include <tuple>

#include "ops/products.h"
#include "ops/seed_groups.h"
#include "ops/tanh_slope.h"
#include "ops/trained_stack.h"

namespace tom {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using Tensors = std::vector<Tensor>;

// Under the square root, so that the norm has a gradient where the slope vanishes.
constexpr double kTiny = 1e-12;

Tensor transposed(const Tensor& t) { return t.transpose(2, 3); }

// Adds the gradient of weight * mean((|d logit / dx| - 1)^2) on inputs x [S, 1, B, I] to
// the network's.
//
// With h_0 = x, z_l = h_l W_l + b_l and h_{l+1} = tanh(z_l), the logit being the last z, the slope
// is found from the top by g_l = p_{l+1} (1 - h_{l+1}^2), p_l = g_l W_l^T, and is p_0. The
// penalty's gradient then goes back through these equations, from p_0 upwards, and what reaches the
// h on the way goes back through the network as usual. A bar marks the gradient of the penalty in a
// value. Each layer's products are computed in the type of its weight, so their factors and results
// are rounded to it; all else is computed in the type of x.
void add_penalty_gradient(TrainedStack& network, const Tensor& x, double weight) {
  const int64_t batch = x.size(2);
  const Tensors &w = network.product_weights(), &w_grad = network.gradients().weights;
  const size_t layers = w.size();
  const auto type = [&](size_t l) { return w[l].scalar_type(); };

  network.forward(x);
  Tensors h{x};
  for (const Tensor& value : network.hiddens().values) h.push_back(value);

  Tensors g(layers), p(layers);
  for (size_t l = layers; l-- > 0;) {  // (the g of the logit itself is 1)
    p[l] = l + 1 == layers ? transposed(w[l]).expand({-1, -1, batch, -1})
                           : member_product(g[l], transposed(w[l]));
    if (l > 0) g[l - 1] = times_tanh_slope(p[l], h[l], x, type(l - 1));
  }

  const Tensor norm = p[0].square().sum(3, /*keepdim=*/true).add_(kTiny).sqrt_();
  Tensor p_bar = p[0] * (1 - norm.reciprocal()).mul_(2 * weight / static_cast<double>(batch));
  Tensors h_bar(layers);
  for (size_t l = 0; l + 1 < layers; ++l) {
    member_product_add(w_grad[l], transposed(p_bar), g[l]);
    const Tensor g_bar = member_product(p_bar, w[l]);
    std::tie(h_bar[l + 1], p_bar) =
        back_through_tanh_slope(g_bar, p[l + 1], h[l + 1], x, type(l + 1));
  }
  w_grad.back().add_(p_bar.sum(2).unsqueeze(3));
  for (size_t l = layers - 1; l-- > 0;) {
    const Tensor z_bar = times_tanh_slope(h_bar[l + 1], h[l + 1], x, type(l),
                                          /*sums=*/network.gradients().biases[l]);
    member_product_add(w_grad[l], transposed(h[l]), z_bar);
    if (l > 0) member_product_add(h_bar[l], z_bar, transposed(w[l]));
  }
}

// The steps of a group of seeds whose network is `network`.
Tensor group_steps(const Tensor& current, const Tensor& replay, const Tensor& mix,
                   TensorList network, IntArrayRef sizes, double replay_label,
                   double gradient_penalty, double learning_rate, Precision precision) {
  const int64_t steps = current.size(0), seeds = current.size(1), batch = current.size(2);
  TrainedStack discriminator(network, "network", seeds, 1, sizes, Activation::tanh, precision);
  const auto options = current.options();
  const Tensor labels =
      at::cat({at::ones({1, batch}, options), at::full({1, batch}, replay_label, options)}, 1);

  Tensors all_logits;
  for (int64_t k = 0; k < steps; ++k) {
    const Tensor both = at::cat({current[k], replay[k]}, 1);
    const Tensor logits = discriminator.forward(both.unsqueeze(1)).view({seeds, -1});
    const Tensor grad = (at::sigmoid(logits) - labels).div_(static_cast<double>(2 * batch));
    discriminator.backward(grad.view({seeds, 1, -1, 1}));
    if (gradient_penalty > 0) {
      add_penalty_gradient(discriminator, at::lerp(replay[k], current[k], mix[k]).unsqueeze(1),
                           gradient_penalty);
    }
    discriminator.step({learning_rate});
    all_logits.push_back(logits);
  }
  return at::stack(all_logits);
}

Tensor discriminator_steps(const Tensor& current, const Tensor& replay, const Tensor& mix,
                           TensorList network, IntArrayRef hidden, double replay_label,
                           double gradient_penalty, double learning_rate,
                           std::string_view precision) {
  TORCH_CHECK_VALUE(current.dim() == 4 && current.numel() > 0, "discriminator_steps: current has ",
                    "shape ", current.sizes(), "; it must be [K, S, B, I] (steps, seeds, batch, ",
                    "inputs), and not empty.");
  TORCH_CHECK_VALUE(replay.sizes() == current.sizes(), "discriminator_steps: replay has shape ",
                    replay.sizes(), "; it must be ", current.sizes(), " as current.");
  const int64_t steps = current.size(0), seeds = current.size(1), batch = current.size(2);
  const std::vector<int64_t> mix_shape{steps, seeds, batch, 1};
  TORCH_CHECK_VALUE(mix.sizes() == mix_shape, "discriminator_steps: mix has shape ", mix.sizes(),
                    "; it must be ", mix_shape, ".");
  check_alike(current, network, "discriminator_steps: current");
  check_alike(replay, network, "discriminator_steps: replay");
  check_alike(mix, network, "discriminator_steps: mix");
  std::vector<int64_t> sizes{current.size(3)};
  sizes.insert(sizes.end(), hidden.begin(), hidden.end());
  sizes.push_back(1);
  const std::vector<StackedState> states{{network.vec(), segments_of(1, sizes)}};
  const int64_t widths = std::accumulate(hidden.begin(), hidden.end(), int64_t{0});
  const auto group = [&](int64_t first, int64_t count, const States& networks) -> Results {
    return {group_steps(current.narrow(1, first, count), replay.narrow(1, first, count),
                        mix.narrow(1, first, count), networks[0], sizes, replay_label,
                        gradient_penalty, learning_rate, precision_from(precision))};
  };
  return for_seed_groups(seeds, states, 2 * batch * widths, /*seed_axis=*/1, group)[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) {
  m.impl("discriminator_steps", discriminator_steps);
}

}  // namespace tom
