// Humanoid-v5.
#include <algorithm>

#include "envs/humanoid_body.h"
#include "envs/spatial.h"

namespace tom::envs {
namespace {

class Humanoid final : public Spatial {
 public:
  Humanoid(const mjModel* m, const Arguments& args)
      : Spatial(m, args),
        body_(m, args),
        contact_cost_range_(args.range("contact_cost_range")),
        mass_(pairwise_sum<double>(m->nbody, [m](int b) { return m->body_mass[b]; })) {
    observation_size_ += body_.observation_size();
    info_fields_ = {{"x_position", true},
                    {"y_position", true},
                    {"tendon_length", true, InfoType::kFloat64, body_.ntendon(), true},
                    {"tendon_velocity", true, InfoType::kFloat64, body_.ntendon(), true},
                    {"distance_from_origin", true},
                    {"x_velocity"},
                    {"y_velocity"},
                    {"reward_survive"},
                    {"reward_forward"},
                    {"reward_ctrl"},
                    {"reward_contact"}};
  }

 private:
  void observe(const mjModel*, const mjData* d, double* observation) const override {
    body_.observe(d, write_velocities(d, write_positions(d, observation)));
  }

  // The centre of mass in the plane, summed over the bodies in order, as np.einsum does.
  void remember(const mjModel* m, const mjData* d, double* memory) const override {
    double x = 0.0, y = 0.0;
    for (int b = 0; b < m->nbody; ++b) {
      x += m->body_mass[b] * d->xipos[3 * b];
      y += m->body_mass[b] * d->xipos[3 * b + 1];
    }
    memory[0] = x / mass_;
    memory[1] = y / mass_;
  }

  double* locate(const mjModel*, const mjData* d, double* info) const override {
    info = std::copy_n(d->qpos, 2, info);
    info = body_.write_tendons(d, info);
    *info++ = norm_(d->qpos, 2);
    return info;
  }

  Outcome evaluate(const Step& step, double* info) const override {
    double centre[2];
    remember(step.model, step.data, centre);
    info[0] = (centre[0] - step.memory[0]) / step.dt;
    info[1] = (centre[1] - step.memory[1]) / step.dt;
    info[3] = forward_reward_weight_ * info[0];
    // The cost is that of data.ctrl, in float64, not of the action.
    const double ctrl_cost =
        ctrl_cost_weight_ * square_sum(step.data->ctrl, static_cast<int>(step.model->nu));
    const double contact_cost = clip(contact_cost_weight_ * body_.contact_square_sum(step.data),
                                     contact_cost_range_.first, contact_cost_range_.second);
    info[4] = -ctrl_cost;
    info[5] = -contact_cost;
    return outcome(step, info[3], ctrl_cost, contact_cost, &info[2]);
  }

  bool healthy(const double* qpos, const double*) const override {
    return healthy_z_.first < qpos[2] && qpos[2] < healthy_z_.second;
  }

  const HumanoidBody body_;
  const Range contact_cost_range_;
  const double mass_;
};

}  // namespace

std::unique_ptr<Task> make_humanoid(const mjModel* m, const Arguments& args) {
  return std::make_unique<Humanoid>(m, args);
}

}  // namespace tom::envs
