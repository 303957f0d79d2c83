// What Ant and Humanoid share: a free body, rewarded for its forward velocity and for staying
// healthy, less the costs of control and of contact forces.
#pragma once

#include "envs/task.h"

namespace tom::envs {

class Spatial : public Task {
 protected:
  Spatial(const mjModel* m, const Arguments& args)
      : Task(m, args, args.flag("exclude_current_positions_from_observation") ? 2 : 0, 3),
        forward_reward_weight_(args.number("forward_reward_weight")),
        ctrl_cost_weight_(args.number("ctrl_cost_weight")),
        contact_cost_weight_(args.number("contact_cost_weight")),
        healthy_reward_(args.number("healthy_reward")),
        terminate_when_unhealthy_(args.flag("terminate_when_unhealthy")),
        healthy_z_(args.range("healthy_z_range")) {
    memory_size_ = 2;
    needs_contact_forces_ = true;
  }

  virtual bool healthy(const double* qpos, const double* qvel) const = 0;

  bool terminated(const double* qpos, const double* qvel) const override {
    return terminate_when_unhealthy_ && !healthy(qpos, qvel);
  }

  // Reward from its parts, in Gymnasium's order of operations.
  Outcome outcome(const Step& step, double forward, double ctrl_cost, double contact_cost,
                  double* survive) const {
    const bool is_healthy = healthy(step.data->qpos, step.data->qvel);
    *survive = is_healthy * healthy_reward_;
    return {(forward + *survive) - (ctrl_cost + contact_cost),
            !is_healthy && terminate_when_unhealthy_};
  }

  const double forward_reward_weight_, ctrl_cost_weight_, contact_cost_weight_, healthy_reward_;
  const bool terminate_when_unhealthy_;
  const Range healthy_z_;
};

}  // namespace tom::envs
