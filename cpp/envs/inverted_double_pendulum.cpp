// InvertedDoublePendulum-v5.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "envs/task.h"

namespace tom::envs {
namespace {

class InvertedDoublePendulum final : public Task {
 public:
  InvertedDoublePendulum(const mjModel* m, const Arguments& args)
      : Task(m, args, 0, 3, 3), healthy_reward_(args.number("healthy_reward")) {
    if (m->nsite < 1 || nq_ != 3 || nv_ != 3) {
      throw std::invalid_argument("xml_file must have 3 joints and a site at the tip.");
    }
    observation_size_ = 9;
    info_fields_ = {{"reward_survive"}, {"distance_penalty"}, {"velocity_penalty"}};
    // Heights of the poles' joints and of the tip while both poles are upright.
    const int outer = m->site_bodyid[0], inner = m->body_parentid[outer];
    outer_length_ = m->site_pos[2];
    inner_length_ = m->body_pos[3 * outer + 2];
    for (int body = inner; body > 0; body = m->body_parentid[body]) {
      base_height_ += m->body_pos[3 * body + 2];
    }
  }

 private:
  void observe(const mjModel*, const mjData* d, double* out) const override {
    *out++ = d->qpos[0];
    for (int i = 1; i < nq_; ++i) *out++ = std::sin(d->qpos[i]);
    for (int i = 1; i < nq_; ++i) *out++ = std::cos(d->qpos[i]);
    for (int i = 0; i < nv_; ++i) *out++ = clip(d->qvel[i], -10.0, 10.0);
    *out = clip(d->qfrc_constraint[0], -10.0, 10.0);
  }

  Outcome evaluate(const Step& step, double* info) const override {
    const double x = step.data->site_xpos[0], height = step.data->site_xpos[2];
    const double* velocity = step.data->qvel;
    const bool fell = fallen(height);
    const double distance_penalty = 0.01 * numpy_square(x) + numpy_square(height - 2.0);
    const double velocity_penalty =
        1e-3 * numpy_square(velocity[1]) + 5e-3 * numpy_square(velocity[2]);
    info[0] = healthy_reward_ * (fell ? 0.0 : 1.0);
    info[1] = -distance_penalty;
    info[2] = -velocity_penalty;
    return {(info[0] - distance_penalty) - velocity_penalty, fell};
  }

  static bool fallen(double height) { return height <= 1.0; }

  // In the simulator, as in Gymnasium, the tip's position is that of the last Runge-Kutta stage.
  // An observation shows the angles after it, which differ by the integration error.
  bool terminated_at(const double* observation, double*) const override {
    const double sin1 = observation[1], sin2 = observation[2];
    const double cos1 = observation[3], cos2 = observation[4];
    return fallen(base_height_ + inner_length_ * cos1 +
                  outer_length_ * (cos1 * cos2 - sin1 * sin2));
  }

  const double healthy_reward_;
  double base_height_ = 0.0, inner_length_, outer_length_;
};

}  // namespace

std::unique_ptr<Task> make_inverted_double_pendulum(const mjModel* m, const Arguments& args) {
  return std::make_unique<InvertedDoublePendulum>(m, args);
}

}  // namespace tom::envs
