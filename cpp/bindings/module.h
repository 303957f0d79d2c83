#pragma once

#include <pybind11/pybind11.h>

namespace tom {

void bind_replay(pybind11::module_& m);
void bind_envs(pybind11::module_& m);

}  // namespace tom
