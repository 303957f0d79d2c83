// What Hopper, Walker2d and HalfCheetah share: a body in the x-z plane, rewarded for its forward
// velocity less a control cost.
#pragma once

#include "envs/task.h"

namespace tom::envs {

class Planar : public Task {
 protected:
  Planar(const mjModel* m, const Arguments& args, int least_positions)
      : Task(m, args, args.flag("exclude_current_positions_from_observation") ? 1 : 0,
             least_positions),
        forward_reward_weight_(args.number("forward_reward_weight")),
        ctrl_cost_weight_(args.number("ctrl_cost_weight")) {
    memory_size_ = 1;
  }

  void remember(const mjModel*, const mjData* d, double* memory) const override {
    memory[0] = d->qpos[0];
  }

  static double forward_velocity(const Step& step) {
    return (step.data->qpos[0] - step.memory[0]) / step.dt;
  }

  const double forward_reward_weight_;
  const double ctrl_cost_weight_;
};

// Hopper and Walker2d: they can fall, are paid for not falling, and observe clipped velocities.
class PlanarBiped : public Planar {
 protected:
  PlanarBiped(const mjModel* m, const Arguments& args)
      : Planar(m, args, 3),
        healthy_reward_(args.number("healthy_reward")),
        terminate_when_unhealthy_(args.flag("terminate_when_unhealthy")),
        healthy_z_(args.range("healthy_z_range")),
        healthy_angle_(args.range("healthy_angle_range")) {
    info_fields_ = {{"x_position", true},
                    {"z_distance_from_origin", true},
                    {"x_velocity"},
                    {"reward_forward"},
                    {"reward_ctrl", false, InfoType::kActionType},
                    {"reward_survive"}};
  }

  virtual bool healthy(const double* qpos, const double* qvel) const = 0;

  // The ranges are open: Gymnasium compares strictly.
  bool upright(const double* qpos) const {
    return healthy_z_.first < qpos[1] && qpos[1] < healthy_z_.second &&
           healthy_angle_.first < qpos[2] && qpos[2] < healthy_angle_.second;
  }

  void observe(const mjModel*, const mjData* d, double* observation) const override {
    double* out = write_positions(d, observation);
    for (int i = 0; i < nv_; ++i) out[i] = clip(d->qvel[i], -10.0, 10.0);
  }

  double* locate(const mjModel* m, const mjData* d, double* info) const override {
    *info++ = d->qpos[0];
    *info++ = d->qpos[1] - m->qpos0[1];
    return info;
  }

  Outcome evaluate(const Step& step, double* info) const override {
    const double velocity = forward_velocity(step);
    const double forward = forward_reward_weight_ * velocity;
    const bool is_healthy = healthy(step.data->qpos, step.data->qvel);
    const double survive = is_healthy * healthy_reward_;
    const double cost = step.action.square_cost(ctrl_cost_weight_);
    info[0] = velocity;
    info[1] = forward;
    info[2] = -cost;
    info[3] = survive;
    return {(forward + survive) - cost, !is_healthy && terminate_when_unhealthy_};
  }

  bool terminated(const double* qpos, const double* qvel) const override {
    return terminate_when_unhealthy_ && !healthy(qpos, qvel);
  }

 private:
  const double healthy_reward_;
  const bool terminate_when_unhealthy_;
  const Range healthy_z_, healthy_angle_;
};

}  // namespace tom::envs
