// Ant-v5.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "envs/spatial.h"

namespace tom::envs {
namespace {

int body_index(const mjModel* m, const Arguments::Value& body) {
  if (const std::string* name = std::get_if<std::string>(&body)) {
    const int index = mj_name2id(m, mjOBJ_BODY, name->c_str());
    if (index >= 0) return index;
    throw std::invalid_argument("main_body is '" + *name + "', but the model has no such body.");
  }
  const double* index = std::get_if<double>(&body);
  if (index && *index >= 0 && *index < m->nbody && *index == std::floor(*index)) {
    return static_cast<int>(*index);
  }
  throw std::invalid_argument("main_body must be a body's name or an integer from 0 to " +
                              std::to_string(m->nbody - 1) + ".");
}

class Ant final : public Spatial {
 public:
  Ant(const mjModel* m, const Arguments& args)
      : Spatial(m, args),
        main_body_(body_index(m, args.value("main_body"))),
        contact_force_range_(args.range("contact_force_range")),
        observe_contact_(args.flag("include_cfrc_ext_in_observation")),
        force_count_(6 * static_cast<int>(m->nbody)) {
    if (observe_contact_) observation_size_ += force_count_ - 6;  // without the world body
    info_fields_ = {{"x_position", true},
                    {"y_position", true},
                    {"distance_from_origin", true},
                    {"x_velocity"},
                    {"y_velocity"},
                    {"reward_forward"},
                    {"reward_ctrl", false, InfoType::kActionType},
                    {"reward_contact"},
                    {"reward_survive"}};
  }

 private:
  double clipped_force(const mjData* d, int i) const {
    return clip(d->cfrc_ext[i], contact_force_range_.first, contact_force_range_.second);
  }

  void observe(const mjModel*, const mjData* d, double* observation) const override {
    double* out = write_velocities(d, write_positions(d, observation));
    if (!observe_contact_) return;
    for (int i = 6; i < force_count_; ++i) *out++ = clipped_force(d, i);
  }

  // Body positions lag a substep behind qpos, in Gymnasium too.
  void remember(const mjModel*, const mjData* d, double* memory) const override {
    std::copy_n(d->xpos + 3 * main_body_, 2, memory);
  }

  double* locate(const mjModel*, const mjData* d, double* info) const override {
    info = std::copy_n(d->qpos, 2, info);
    *info++ = norm_(d->qpos, 2);
    return info;
  }

  Outcome evaluate(const Step& step, double* info) const override {
    const double* position = step.data->xpos + 3 * main_body_;
    info[0] = (position[0] - step.memory[0]) / step.dt;
    info[1] = (position[1] - step.memory[1]) / step.dt;
    info[2] = info[0] * forward_reward_weight_;
    const double ctrl_cost = step.action.square_cost(ctrl_cost_weight_);
    const double contact_cost = contact_cost_weight_ * contact_square_sum(step.data);
    info[3] = -ctrl_cost;
    info[4] = -contact_cost;
    return outcome(step, info[2], ctrl_cost, contact_cost, &info[5]);
  }

  double contact_square_sum(const mjData* d) const {
    return pairwise_sum<double>(force_count_, [&](int i) {
      const double force = clipped_force(d, i);
      return force * force;
    });
  }

  // An observation without x and y cannot show that one of them is not finite.
  bool healthy(const double* qpos, const double* qvel) const override {
    const auto finite = [](double x) { return std::isfinite(x); };
    return std::all_of(qpos, qpos + nq_, finite) && std::all_of(qvel, qvel + nv_, finite) &&
           healthy_z_.first <= qpos[2] && qpos[2] <= healthy_z_.second;
  }

  const int main_body_;
  const Range contact_force_range_;
  const bool observe_contact_;
  const int force_count_;
};

}  // namespace

std::unique_ptr<Task> make_ant(const mjModel* m, const Arguments& args) {
  return std::make_unique<Ant>(m, args);
}

}  // namespace tom::envs
