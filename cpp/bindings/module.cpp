#include "bindings/module.h"

PYBIND11_MODULE(_native, m) {
  m.doc() = "The native core of tom: the replay buffer and the batched simulator.";
  tom::bind_replay(m);
  tom::bind_envs(m);
}
