#include "bindings/module.h"

namespace tom {

void bind_envs(pybind11::module_& m) { (void)m; }

}  // namespace tom
