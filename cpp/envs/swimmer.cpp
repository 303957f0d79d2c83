// Swimmer-v5: it moves in the x-y plane and cannot fall.
#include <algorithm>

#include "envs/task.h"

namespace tom::envs {
namespace {

class Swimmer final : public Task {
 public:
  Swimmer(const mjModel* m, const Arguments& args)
      : Task(m, args, args.flag("exclude_current_positions_from_observation") ? 2 : 0, 2),
        forward_reward_weight_(args.number("forward_reward_weight")),
        ctrl_cost_weight_(args.number("ctrl_cost_weight")) {
    memory_size_ = 2;
    info_fields_ = {{"x_position", true},
                    {"y_position", true},
                    {"distance_from_origin", true},
                    {"x_velocity"},
                    {"y_velocity"},
                    {"reward_forward"},
                    {"reward_ctrl", false, InfoType::kActionType}};
  }

 private:
  void remember(const mjModel*, const mjData* d, double* memory) const override {
    std::copy_n(d->qpos, 2, memory);
  }

  double* locate(const mjModel*, const mjData* d, double* info) const override {
    info = std::copy_n(d->qpos, 2, info);
    *info++ = norm_(d->qpos, 2);
    return info;
  }

  Outcome evaluate(const Step& step, double* info) const override {
    info[0] = (step.data->qpos[0] - step.memory[0]) / step.dt;
    info[1] = (step.data->qpos[1] - step.memory[1]) / step.dt;
    info[2] = forward_reward_weight_ * info[0];
    const double cost = step.action.square_cost(ctrl_cost_weight_);
    info[3] = -cost;
    return {info[2] - cost, false};
  }

  const double forward_reward_weight_, ctrl_cost_weight_;
};

}  // namespace

std::unique_ptr<Task> make_swimmer(const mjModel* m, const Arguments& args) {
  return std::make_unique<Swimmer>(m, args);
}

}  // namespace tom::envs
