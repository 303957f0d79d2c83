// InvertedPendulum-v5.
#include <algorithm>
#include <cmath>

#include "envs/task.h"

namespace tom::envs {
namespace {

class InvertedPendulum final : public Task {
 public:
  InvertedPendulum(const mjModel* m, const Arguments& args) : Task(m, args, 0, 2) {
    info_fields_ = {{"reward_survive", false, InfoType::kInt64}};
  }

 private:
  Outcome evaluate(const Step& step, double* info) const override {
    const bool fell = terminated(step.data->qpos, step.data->qvel);
    info[0] = fell ? 0.0 : 1.0;
    return {info[0], fell};
  }

  bool terminated(const double* qpos, const double* qvel) const override {
    const auto finite = [](double x) { return std::isfinite(x); };
    return !std::all_of(qpos, qpos + nq_, finite) || !std::all_of(qvel, qvel + nv_, finite) ||
           std::abs(qpos[1]) > 0.2;
  }
};

}  // namespace

std::unique_ptr<Task> make_inverted_pendulum(const mjModel* m, const Arguments& args) {
  return std::make_unique<InvertedPendulum>(m, args);
}

}  // namespace tom::envs
