// tom::sac_updates: all soft actor-critic updates of one environment step in one call.
//
// The gradients are written out by hand: no graph is built, the actor's loss computes no gradient
// for the critics, one pass of the actor serves s and s', and each network's parameters are one
// vector for Adam and for the target's average. Nothing waits for a value on the host, so that on
// a GPU the launches queue up.

#include <ATen/TensorOperators.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/heaviside.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>

#include "ops/fused_kernels.h"
#include "ops/seed_groups.h"
#include "ops/squashed_gaussian.h"
#include "ops/trained_stack.h"

namespace tom {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;

// Columns of a row [s | a | s' | r | terminated].
struct Columns {
  int64_t observations, actions;

  Tensor observation(const Tensor& rows) const { return rows.narrow(2, 0, observations); }
  Tensor state_action(const Tensor& rows) const {
    return rows.narrow(2, 0, observations + actions);
  }
  Tensor next_observation(const Tensor& rows) const {
    return rows.narrow(2, observations + actions, observations);
  }
  Tensor reward(const Tensor& rows) const { return rows.select(2, rows.size(2) - 2); }
  Tensor terminated(const Tensor& rows) const { return rows.select(2, rows.size(2) - 1); }
};

struct Settings {
  double discount, tau, target_entropy, learning_rate;
};

std::vector<int64_t> layer_sizes(int64_t inputs, IntArrayRef hidden, int64_t outputs) {
  std::vector<int64_t> sizes{inputs};
  sizes.insert(sizes.end(), hidden.begin(), hidden.end());
  sizes.push_back(outputs);
  return sizes;
}

class Updates {
 public:
  Updates(Columns columns, const Tensor& rows, TensorList actor, TensorList critic,
          TensorList temperature, const Tensor& target, const SquashedGaussian& gaussian,
          IntArrayRef hidden, const Settings& settings, Precision precision)
      : columns_(columns),
        settings_(settings),
        gaussian_(gaussian),
        seeds_(rows.size(1)),
        batch_(rows.size(2)),
        actor_(actor, "actor", seeds_, 1,
               layer_sizes(columns.observations, hidden, 2 * columns.actions), Activation::relu,
               precision),
        critic_(critic, "critic", seeds_, 2, critic_sizes(hidden), Activation::relu, precision),
        target_(like_critic(target), seeds_, 2, critic_sizes(hidden), settings.tau, precision),
        temperature_(temperature, "temperature", seeds_, 1, {1}, Activation::relu, precision,
                     seeds_) {}

  /// One update on rows [S, B, W] with noise [S, 2B, A]; if `metrics` is not null, the losses,
  /// temperature and entropy are stored there, [4, S].
  void update(const Tensor& rows, const Tensor& noise, Tensor* metrics) {
    const Tensor log_alpha = temperature_.extra(0, {seeds_, 1});
    const Tensor alpha = at::exp(log_alpha);
    const Tensor observations = columns_.observation(rows);
    const Tensor both = at::cat({observations, columns_.next_observation(rows)}, 1);
    const Tensor out = actor_.forward(both.unsqueeze(1)).squeeze(1);
    const SquashedSample sample = squashed_sample(out, noise, gaussian_);

    const Tensor error = critic_error(rows, alpha, sample);
    critic_.backward((error * (2.0 / static_cast<double>(batch_))).unsqueeze(3));
    critic_.step({settings_.learning_rate}, &target_);

    const Tensor log_prob = sample.log_prob.narrow(1, 0, batch_);
    const Tensor actions = sample.action.narrow(1, 0, batch_);
    const Tensor q = critic_.forward(at::cat({observations, actions}, 2).unsqueeze(1)).squeeze(3);
    actor_.keep_rows(batch_);
    actor_.backward(actor_gradient(q, alpha, sample).unsqueeze(1));
    actor_.step({settings_.learning_rate});

    const Tensor entropy = -log_prob.mean(1, /*keepdim=*/true);
    temperature_.extra_gradient(0, {seeds_, 1}).copy_(entropy - settings_.target_entropy);
    temperature_.step({settings_.learning_rate});
    if (metrics != nullptr) {
      const Tensor critic_loss = at::sum((error * error).mean(2), 1);
      const Tensor actor_loss = (alpha * log_prob - at::amin(q, 1)).mean(1);
      *metrics = at::stack({critic_loss, actor_loss, alpha.squeeze(1), entropy.squeeze(1)});
    }
  }

 private:
  const Tensor& like_critic(const Tensor& target) const {
    TORCH_CHECK_VALUE(target.sizes() == critic_.flat().sizes() && target.is_contiguous(),
                      "sac_updates: target has shape ", target.sizes(), "; it must be ",
                      critic_.flat().sizes(), " as the critic, and contiguous.");
    return target;
  }

  std::vector<int64_t> critic_sizes(IntArrayRef hidden) const {
    return layer_sizes(columns_.observations + columns_.actions, hidden, 1);
  }

  // Q(s, a) - [r + gamma (1 - terminated) (min Q'(s', a') - alpha log pi(a'|s'))], [S, 2, B].
  Tensor critic_error(const Tensor& rows, const Tensor& alpha, const SquashedSample& sample) {
    const Tensor next_actions = sample.action.narrow(1, batch_, batch_);
    const Tensor following = at::cat({columns_.next_observation(rows), next_actions}, 2);
    const Tensor next_q = mlp_forward(following.unsqueeze(1), target_.product_weights(),
                                      target_.layers().biases, Activation::relu, nullptr)
                              .squeeze(3);
    Tensor goal = at::minimum(next_q.select(1, 0), next_q.select(1, 1));
    goal.sub_(alpha * sample.log_prob.narrow(1, batch_, batch_));
    goal.mul_(columns_.terminated(rows).neg().add_(1)).mul_(settings_.discount);
    goal.add_(columns_.reward(rows));
    const Tensor q = critic_.forward(columns_.state_action(rows).unsqueeze(1)).squeeze(3);
    return q - goal.unsqueeze(1);
  }

  // d/d (actor's output) of mean(alpha log pi - min Q), for s alone: the rows of s' have none.
  Tensor actor_gradient(const Tensor& q, const Tensor& alpha, const SquashedSample& sample) {
    // The smaller of the two takes the gradient; of equals each takes half, as in torch.amin.
    const double each = 1.0 / static_cast<double>(batch_);
    const Tensor half = at::full({}, 0.5, q.options());
    const Tensor grad_q = at::heaviside(q.flip(1).sub_(q), half).mul_(-each).unsqueeze(3);
    const Tensor grad_action =
        critic_.backward_to_input(grad_q, {columns_.observations, columns_.actions}).squeeze(1);
    const Tensor grad_log_prob = (alpha * each).unsqueeze(2);
    return squashed_backward(sample, grad_action, grad_log_prob, gaussian_);
  }

  const Columns columns_;
  const Settings settings_;
  const SquashedGaussian gaussian_;
  const int64_t seeds_, batch_;
  TrainedStack actor_, critic_;
  Followers target_;
  TrainedStack temperature_;
};

using FusedUpdates = Tensor(const Tensor&, const Tensor&, TensorList, TensorList, TensorList,
                            const Tensor&, const Tensor&, const Tensor&, int64_t, IntArrayRef,
                            double, double, double, double, double, double, std::string_view);

const auto& fused_op() {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("tom::sac_updates_fused", "")
                             .typed<FusedUpdates>();
  return op;
}

bool takes_fused(const Tensor& rows, int64_t actions, IntArrayRef hidden, Precision precision) {
  return hidden.size() == 2 && std::max(hidden[0], hidden[1]) <= kWidestFused &&
         actions <= kWidestFusedGaussian && rows.size(2) <= kLongestFusedBatch &&
         can_be_counted(2 * rows.size(1), 2 * kWidestFused * rows.size(1) * rows.size(2)) &&
         has_fused_kernel(fused_op(), rows, precision);
}

Tensor sac_updates(const Tensor& rows, const Tensor& noise, TensorList actor, TensorList critic,
                   TensorList temperature, const Tensor& target, const Tensor& scale,
                   const Tensor& center, int64_t observations, IntArrayRef hidden, double discount,
                   double tau, double target_entropy, double learning_rate, double log_std_min,
                   double log_std_max, std::string_view precision, bool fused) {
  TORCH_CHECK_VALUE(scale.dim() == 1 && scale.numel() > 0 && center.sizes() == scale.sizes(),
                    "sac_updates: scale has shape ", scale.sizes(), " and center ", center.sizes(),
                    "; both must be [A] with A >= 1, one number per action.");
  const int64_t actions = scale.size(0);
  TORCH_CHECK_VALUE(rows.dim() == 4 && rows.size(0) > 0 && rows.size(1) > 0 && rows.size(2) > 0 &&
                        rows.size(3) == 2 * observations + actions + 2,
                    "sac_updates: rows has shape ", rows.sizes(), "; it must be [G, S, B, ",
                    2 * observations + actions + 2, "], the width of a row [s | a | s' | r | ",
                    "terminated] with ", observations, " observations and ", actions, " actions.");
  const std::vector<int64_t> noise_shape{rows.size(0), rows.size(1), 2 * rows.size(2), actions};
  TORCH_CHECK_VALUE(noise.sizes() == noise_shape, "sac_updates: noise has shape ", noise.sizes(),
                    "; it must be ", noise_shape, ", for s and s' of every row.");
  check_alike(rows, actor, "sac_updates: rows");
  check_alike(noise, actor, "sac_updates: noise");
  check_alike(target, actor, "sac_updates: target");
  check_alike(scale, actor, "sac_updates: scale");
  check_alike(center, actor, "sac_updates: center");
  if (!critic.empty()) check_alike(critic[0], actor, "sac_updates: critic");
  if (!temperature.empty()) check_alike(temperature[0], actor, "sac_updates: temperature");
  const Settings settings{discount, tau, target_entropy, learning_rate};
  const SquashedGaussian gaussian{scale, center, log_std_min, log_std_max};
  const auto actor_sizes = layer_sizes(observations, hidden, 2 * actions);
  const auto critic_sizes = layer_sizes(observations + actions, hidden, 1);
  const std::vector<StackedState> states{{actor.vec(), segments_of(1, actor_sizes)},
                                         {critic.vec(), segments_of(2, critic_sizes)},
                                         {temperature.vec(), {1}},
                                         {{target}, segments_of(2, critic_sizes)}};
  const int64_t widths = std::accumulate(hidden.begin(), hidden.end(), int64_t{0});
  const int64_t passes = 4;  // the actor's in s and s', the two critics'
  const bool by_fused = fused && takes_fused(rows, actions, hidden, precision_from(precision));
  const auto group_updates = [&](int64_t first, int64_t count, const States& group) -> Results {
    const Tensor group_rows = rows.narrow(1, first, count);
    const Tensor group_noise = noise.narrow(1, first, count);
    Updates updates({observations, actions}, group_rows, group[0], group[1], group[2], group[3][0],
                    gaussian, hidden, settings, precision_from(precision));
    if (by_fused) {  // the networks have been checked by now
      return {fused_op().call(group_rows, group_noise, group[0], group[1], group[2], group[3][0],
                              scale, center, observations, hidden, discount, tau, target_entropy,
                              learning_rate, log_std_min, log_std_max, precision)};
    }
    Tensor metrics;
    for (int64_t g = 0; g < rows.size(0); ++g) {
      updates.update(group_rows[g], group_noise[g], g + 1 == rows.size(0) ? &metrics : nullptr);
    }
    return {metrics};
  };
  return for_seed_groups(rows.size(1), states, passes * rows.size(2) * widths, /*seed_axis=*/1,
                         group_updates)[0];
}

}  // namespace

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) { m.impl("sac_updates", sac_updates); }

}  // namespace tom
