// The schemas of what only tests and comparisons call: torch.ops.tom_tests. It is no part of the
// interface. The switches hold for the whole process and return what was set before.

#include <torch/library.h>

TORCH_LIBRARY(tom_tests, m) {
  // Whether the CPU's own kernels are used, and whether they may be for bfloat16 (cpu_kernels.h).
  m.def("use_cpu_kernels(bool on) -> bool");
  m.def("use_bfloat16_kernels(bool on) -> bool");

  // The products of a stack, and whether they are the project's own (products.h).
  m.def("member_product(Tensor a, Tensor b) -> Tensor");
  m.def("has_blocked_product(Tensor a) -> bool");
  m.def("use_blocked_products(bool on) -> bool");

  // A step of Adam, with an average that follows (adam.h).
  m.def(
      "adam_step(Tensor(a!)[] trained, Tensor(b!) average, float learning_rate,"
      " float weight_decay, float rate) -> ()");

  // A sample of the actor, and the way back through it (squashed_gaussian.h).
  m.def(
      "squashed_gaussian(Tensor out, Tensor noise, Tensor scale, Tensor center, float log_std_min,"
      " float log_std_max, Tensor grad_action, Tensor grad_log_prob)"
      " -> (Tensor action, Tensor log_prob, Tensor grad_out)");

  // How many bytes a group of seeds may take (seed_groups.h).
  m.def("set_seed_group_bytes(int bytes) -> int");
}
