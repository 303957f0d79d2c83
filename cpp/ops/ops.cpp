// The schemas of the operators. What each one computes is said in python/tom/ops.py, and in plain
// PyTorch in python/tom/reference.py; the kernels are registered in the file named after each.
// What tests and comparisons need besides is in test_ops.cpp.

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

  // Training steps. A trained stack is [flat, gradient, exp_avg, exp_avg_sq, step], all updated.
  m.def(
      "sac_updates(Tensor rows, Tensor noise, Tensor(a!)[] actor, Tensor(b!)[] critic,"
      " Tensor(c!)[] temperature, Tensor(d!) target, Tensor scale, Tensor center,"
      " int observations, int[] hidden, float discount, float tau, float target_entropy,"
      " float learning_rate, float log_std_min, float log_std_max, str precision, bool fused)"
      " -> Tensor metrics");
  // The same with `fused`, for networks that fit: python/tom/kernels has it for GPUs.
  m.def(
      "sac_updates_fused(Tensor rows, Tensor noise, Tensor(a!)[] actor, Tensor(b!)[] critic,"
      " Tensor(c!)[] temperature, Tensor(d!) target, Tensor scale, Tensor center,"
      " int observations, int[] hidden, float discount, float tau, float target_entropy,"
      " float learning_rate, float log_std_min, float log_std_max, str precision)"
      " -> Tensor metrics");
  m.def(
      "dynamics_steps(Tensor inputs, Tensor targets, Tensor weights, Tensor(a!)[] network,"
      " int[] hidden, float learning_rate, float weight_decay, float log_var_penalty,"
      " str precision, bool fused)"
      " -> Tensor loss");
  m.def(
      "dynamics_steps_fused(Tensor inputs, Tensor targets, Tensor weights, Tensor(a!)[] network,"
      " int[] hidden, float learning_rate, float weight_decay, float log_var_penalty,"
      " str precision)"
      " -> Tensor loss");
  m.def(
      "dual_q_steps(Tensor inputs, Tensor rewards, Tensor go_on, Tensor(a!)[] network,"
      " int[] hidden, int samples, str divergence, bool quadratic, bool restart,"
      " float discount, float learning_rate, float l2, str precision, bool fused)"
      " -> (Tensor delta, Tensor start_value)");
  m.def(
      "dual_q_steps_fused(Tensor inputs, Tensor rewards, Tensor go_on, Tensor(a!)[] network,"
      " int[] hidden, int samples, str divergence, bool quadratic, bool restart,"
      " float discount, float learning_rate, float l2, str precision)"
      " -> (Tensor delta, Tensor start_value)");
  m.def(
      "discriminator_steps(Tensor current, Tensor replay, Tensor mix, Tensor(a!)[] network,"
      " int[] hidden, float replay_label, float gradient_penalty, float learning_rate,"
      " str precision)"
      " -> Tensor logits");
}
