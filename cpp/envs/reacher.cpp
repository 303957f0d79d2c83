// Reacher-v5.
#include <algorithm>
#include <cmath>

#include "envs/bodies.h"
#include "envs/task.h"

namespace tom::envs {
namespace {

class Reacher final : public Task {
 public:
  Reacher(const mjModel* m, const Arguments& args)
      : Task(m, args, 0, 2, 2),
        reward_dist_weight_(args.number("reward_dist_weight")),
        reward_control_weight_(args.number("reward_control_weight")),
        fingertip_(body_named(m, "fingertip")),
        target_(body_named(m, "target")) {
    observation_size_ = 8 + (nq_ - 2);
    info_fields_ = {{"reward_dist"}, {"reward_ctrl", false, InfoType::kActionType}};
  }

 private:
  void observe(const mjModel*, const mjData* d, double* out) const override {
    for (int i = 0; i < 2; ++i) *out++ = std::cos(d->qpos[i]);
    for (int i = 0; i < 2; ++i) *out++ = std::sin(d->qpos[i]);
    out = std::copy(d->qpos + 2, d->qpos + nq_, out);
    out = std::copy_n(d->qvel, 2, out);
    for (int i = 0; i < 2; ++i) *out++ = distance(d, fingertip_, target_)[i];
  }

  Outcome evaluate(const Step& step, double* info) const override {
    info[0] = -norm_(distance(step.data, fingertip_, target_).data(), 3) * reward_dist_weight_;
    info[1] = -step.action.square_cost(reward_control_weight_);
    return {info[0] + info[1], false};
  }

  const double reward_dist_weight_, reward_control_weight_;
  const int fingertip_, target_;
};

}  // namespace

std::unique_ptr<Task> make_reacher(const mjModel* m, const Arguments& args) {
  return std::make_unique<Reacher>(m, args);
}

}  // namespace tom::envs
