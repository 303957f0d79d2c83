// HalfCheetah-v5: it cannot fall.
#include "envs/planar.h"

namespace tom::envs {
namespace {

class HalfCheetah final : public Planar {
 public:
  HalfCheetah(const mjModel* m, const Arguments& args) : Planar(m, args, 1) {
    info_fields_ = {{"x_position", true},
                    {"x_velocity"},
                    {"reward_forward"},
                    {"reward_ctrl", false, InfoType::kActionType}};
  }

 private:
  double* locate(const mjModel*, const mjData* d, double* info) const override {
    *info++ = d->qpos[0];
    return info;
  }

  Outcome evaluate(const Step& step, double* info) const override {
    const double velocity = forward_velocity(step);
    const double forward = forward_reward_weight_ * velocity;
    const double cost = step.action.square_cost(ctrl_cost_weight_);
    info[0] = velocity;
    info[1] = forward;
    info[2] = -cost;
    return {forward - cost, false};
  }
};

}  // namespace

std::unique_ptr<Task> make_half_cheetah(const mjModel* m, const Arguments& args) {
  return std::make_unique<HalfCheetah>(m, args);
}

}  // namespace tom::envs
