// Walker2d-v5.
#include "envs/planar.h"

namespace tom::envs {
namespace {

class Walker2d final : public PlanarBiped {
 public:
  Walker2d(const mjModel* m, const Arguments& args) : PlanarBiped(m, args) {}

 private:
  bool healthy(const double* qpos, const double*) const override { return upright(qpos); }
};

}  // namespace

std::unique_ptr<Task> make_walker2d(const mjModel* m, const Arguments& args) {
  return std::make_unique<Walker2d>(m, args);
}

}  // namespace tom::envs
