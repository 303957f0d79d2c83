// Hopper-v5.
#include "envs/planar.h"

namespace tom::envs {
namespace {

class Hopper final : public PlanarBiped {
 public:
  Hopper(const mjModel* m, const Arguments& args)
      : PlanarBiped(m, args), healthy_state_(args.range("healthy_state_range")) {}

 private:
  // Gymnasium bounds every position after the second and every velocity. An observation shows the
  // velocities clipped to [-10, 10], so a rule on observations cannot see a velocity outside of the
  // default (-100, 100); nothing else differs.
  bool healthy(const double* qpos, const double* qvel) const override {
    return all_inside(qpos + 2, nq_ - 2) && all_inside(qvel, nv_) && upright(qpos);
  }

  bool all_inside(const double* x, int n) const {
    for (int i = 0; i < n; ++i) {
      if (!(healthy_state_.first < x[i] && x[i] < healthy_state_.second)) return false;
    }
    return true;
  }

  const Range healthy_state_;
};

}  // namespace

std::unique_ptr<Task> make_hopper(const mjModel* m, const Arguments& args) {
  return std::make_unique<Hopper>(m, args);
}

}  // namespace tom::envs
