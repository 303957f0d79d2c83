// HumanoidStandup-v5: an episode ends only at the time limit.
#include <algorithm>

#include "envs/humanoid_body.h"
#include "envs/task.h"

namespace tom::envs {
namespace {

class HumanoidStandup final : public Task {
 public:
  HumanoidStandup(const mjModel* m, const Arguments& args)
      : Task(m, args, args.flag("exclude_current_positions_from_observation") ? 2 : 0, 3),
        body_(m, args),
        ctrl_cost_weight_(args.number("ctrl_cost_weight")),
        impact_cost_weight_(args.number("impact_cost_weight")),
        impact_cost_range_(args.range("impact_cost_range")) {
    // Gymnasium takes uph_cost_weight and does not use it; so here.
    needs_contact_forces_ = true;
    observation_size_ += body_.observation_size();
    info_fields_ = {{"x_position", true},
                    {"y_position", true},
                    {"z_distance_from_origin", true},
                    {"tendon_length", true, InfoType::kFloat64, body_.ntendon(), true},
                    {"tendon_velocity", true, InfoType::kFloat64, body_.ntendon(), true},
                    {"reward_linup"},
                    {"reward_quadctrl"},
                    {"reward_impact"}};
  }

 private:
  void observe(const mjModel*, const mjData* d, double* observation) const override {
    body_.observe(d, write_velocities(d, write_positions(d, observation)));
  }

  double* locate(const mjModel* m, const mjData* d, double* info) const override {
    info = std::copy_n(d->qpos, 2, info);
    *info++ = d->qpos[2] - m->qpos0[2];
    return body_.write_tendons(d, info);
  }

  Outcome evaluate(const Step& step, double* info) const override {
    const double up = step.data->qpos[2] / step.model->opt.timestep;
    const double ctrl_cost =
        ctrl_cost_weight_ * square_sum(step.data->ctrl, static_cast<int>(step.model->nu));
    const double impact_cost = clip(impact_cost_weight_ * body_.contact_square_sum(step.data),
                                    impact_cost_range_.first, impact_cost_range_.second);
    info[0] = up;
    info[1] = -ctrl_cost;
    info[2] = -impact_cost;
    return {((up - ctrl_cost) - impact_cost) + 1.0, false};
  }

  const HumanoidBody body_;
  const double ctrl_cost_weight_, impact_cost_weight_;
  const Range impact_cost_range_;
};

}  // namespace

std::unique_ptr<Task> make_humanoid_standup(const mjModel* m, const Arguments& args) {
  return std::make_unique<HumanoidStandup>(m, args);
}

}  // namespace tom::envs
