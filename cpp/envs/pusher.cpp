// Pusher-v5.
#include <algorithm>

#include "envs/bodies.h"
#include "envs/task.h"

namespace tom::envs {
namespace {

constexpr int kArmJoints = 7;
constexpr int kJoints = kArmJoints + 4;  // two each of the object and the goal

class Pusher final : public Task {
 public:
  Pusher(const mjModel* m, const Arguments& args)
      : Task(m, args, 0, kJoints, kJoints),
        reward_near_weight_(args.number("reward_near_weight")),
        reward_dist_weight_(args.number("reward_dist_weight")),
        reward_control_weight_(args.number("reward_control_weight")),
        tip_(body_named(m, "tips_arm")),
        object_(body_named(m, "object")),
        goal_(body_named(m, "goal")) {
    observation_size_ = 2 * kArmJoints + 9;
    info_fields_ = {
        {"reward_dist"}, {"reward_ctrl", false, InfoType::kActionType}, {"reward_near"}};
  }

 private:
  void observe(const mjModel*, const mjData* d, double* out) const override {
    out = std::copy_n(d->qpos, kArmJoints, out);
    out = std::copy_n(d->qvel, kArmJoints, out);
    for (int body : {tip_, object_, goal_}) out = std::copy_n(d->xpos + 3 * body, 3, out);
  }

  Outcome evaluate(const Step& step, double* info) const override {
    info[0] = -norm_(distance(step.data, object_, goal_).data(), 3) * reward_dist_weight_;
    info[1] = -step.action.square_cost(reward_control_weight_);
    info[2] = -norm_(distance(step.data, object_, tip_).data(), 3) * reward_near_weight_;
    return {(info[0] + info[1]) + info[2], false};
  }

  const double reward_near_weight_, reward_dist_weight_, reward_control_weight_;
  const int tip_, object_, goal_;
};

}  // namespace

std::unique_ptr<Task> make_pusher(const mjModel* m, const Arguments& args) {
  return std::make_unique<Pusher>(m, args);
}

}  // namespace tom::envs
