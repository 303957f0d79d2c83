#include "bindings/module.h"

namespace tom {

void bind_replay(pybind11::module_& m) { (void)m; }

}  // namespace tom
