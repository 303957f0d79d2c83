// Bodies by name, and distances between them.
#pragma once

#include <mujoco/mujoco.h>

#include <array>
#include <stdexcept>
#include <string>

namespace tom::envs {

// Throws std::invalid_argument if the model has no such body.
inline int body_named(const mjModel* m, const std::string& name) {
  const int index = mj_name2id(m, mjOBJ_BODY, name.c_str());
  if (index < 0) throw std::invalid_argument("the model has no body '" + name + "'.");
  return index;
}

// The vector from body b to body a.
inline std::array<double, 3> distance(const mjData* d, int a, int b) {
  const double* from = d->xpos + 3 * b;
  const double* to = d->xpos + 3 * a;
  return {to[0] - from[0], to[1] - from[1], to[2] - from[2]};
}

}  // namespace tom::envs
