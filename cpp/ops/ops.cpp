// The schemas of the operators. What each one computes is said in python/tom/ops.py, and in plain
// PyTorch in python/tom/reference.py; the kernels are registered in the file named after each.

#include <torch/library.h>

TORCH_LIBRARY(tom, m) {
  m.set_python_module("tom.ops");  // where the fake kernels are

  m.def("stacked_mlp(Tensor x, Tensor[] weights, Tensor[] biases, str activation) -> Tensor");
  // saved: what the backward needs of each hidden layer, or nothing unless `save`.
  m.def(
      "stacked_mlp_forward(Tensor x, Tensor[] weights, Tensor[] biases, str activation, bool save)"
      " -> (Tensor out, Tensor[] saved)");
  // The gradients asked for, in the order x, weights, biases.
  m.def(
      "stacked_mlp_backward(Tensor grad_out, Tensor x, Tensor[] weights, Tensor[] saved,"
      " str activation, bool need_x, bool need_parameters) -> Tensor[]");

  m.def(
      "occupancy_weights(Tensor delta, str divergence, float max_weight)"
      " -> (Tensor weights, Tensor effective_sample_size, Tensor clipped_fraction)");
  m.def("effective_sample_size(Tensor weights) -> Tensor");

  m.def(
      "weighted_gaussian_nll(Tensor mean, Tensor log_var, Tensor min_log_var, Tensor max_log_var,"
      " Tensor target, Tensor? weight, Tensor? delta, str divergence, float max_weight)"
      " -> (Tensor loss, Tensor effective_sample_size, Tensor clipped_fraction)");
  // The gradients of the loss with respect to the first four arguments, or nothing unless asked.
  m.def(
      "weighted_gaussian_nll_forward(Tensor mean, Tensor log_var, Tensor min_log_var,"
      " Tensor max_log_var, Tensor target, Tensor weight, bool need_gradients)"
      " -> (Tensor loss, Tensor[] gradients)");

  // Whether the CPU's own kernels are used (see cpu_kernels.h); returns what was set before.
  m.def("use_cpu_kernels(bool on) -> bool");

  // For tests and comparisons: the products of a stack, and whether they are the project's own.
  m.def("member_product(Tensor a, Tensor b) -> Tensor");
  m.def("has_blocked_product(Tensor a) -> bool");
  m.def("use_blocked_products(bool on) -> bool");

  // For tests: a step of Adam, with an average that follows (see adam.h).
  m.def(
      "adam_step(Tensor(a!)[] trained, Tensor(b!) average, float learning_rate,"
      " float weight_decay, float rate) -> ()");

  // For tests: a sample of the actor, and the way back through it (see squashed_gaussian.h).
  m.def(
      "squashed_gaussian(Tensor out, Tensor noise, Tensor scale, Tensor center, float log_std_min,"
      " float log_std_max, Tensor grad_action, Tensor grad_log_prob)"
      " -> (Tensor action, Tensor log_prob, Tensor grad_out)");

  // For tests and comparisons: how many bytes a group of seeds may take (see seed_groups.h).
  m.def("set_seed_group_bytes(int bytes) -> int");

  // Training steps. A trained stack is [flat, gradient, exp_avg, exp_avg_sq, step], all updated.
  m.def(
      "sac_updates(Tensor rows, Tensor noise, Tensor(a!)[] actor, Tensor(b!)[] critic,"
      " Tensor(c!)[] temperature, Tensor(d!) target, Tensor scale, Tensor center,"
      " int observations, int[] hidden, float discount, float tau, float target_entropy,"
      " float learning_rate, float log_std_min, float log_std_max, str precision)"
      " -> Tensor metrics");
  m.def(
      "dynamics_steps(Tensor inputs, Tensor targets, Tensor weights, Tensor(a!)[] network,"
      " int[] hidden, float learning_rate, float weight_decay, float log_var_penalty,"
      " str precision)"
      " -> Tensor loss");
  m.def(
      "dual_q_steps(Tensor inputs, Tensor rewards, Tensor go_on, Tensor(a!)[] network,"
      " int[] hidden, int samples, str divergence, bool quadratic, bool restart,"
      " float discount, float learning_rate, float l2, str precision)"
      " -> (Tensor delta, Tensor start_value)");
  m.def(
      "discriminator_steps(Tensor current, Tensor replay, Tensor mix, Tensor(a!)[] network,"
      " int[] hidden, float replay_label, float gradient_penalty, float learning_rate,"
      " str precision)"
      " -> Tensor logits");
}
