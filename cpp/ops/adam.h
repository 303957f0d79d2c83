#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

#include <vector>

namespace tom {

/// Adam's settings; its other constants are torch.optim.Adam's defaults.
struct AdamSettings {
  double learning_rate, weight_decay = 0.0;
};

/// Vectors of one length, and the number of steps taken, a float32 scalar.
struct AdamState {
  at::Tensor flat, gradient, exp_avg, exp_avg_sq, step;
  /// Elsewhere than on the CPU: the vectors' pieces, as torch's kernel is given them.
  std::vector<at::Tensor> flats, gradients, exp_avgs, exp_avg_sqs;
};

/// [flat, gradient, exp_avg, exp_avg_sq, step]. Raises ValueError, which calls them `name`, unless
/// the first four are contiguous vectors alike, of so many numbers, and the last is a
/// float32 scalar.
AdamState adam_state(at::TensorList tensors, const char* name, int64_t numbers);

/// One step of Adam, all of `state` but the gradient updated in place.
///
/// What follows from the new parameters alone is done in the same pass: `follow(begin, end)` is
/// called once for each stretch of `flat`, by the thread that updated it and while it is in that
/// thread's cache. Elsewhere than on the CPU it is called once, for all.
void adam_step(const AdamState& state, const AdamSettings& settings,
               c10::function_ref<void(int64_t begin, int64_t end)> follow);

/// average[i] += rate (values[i] - average[i]) for i in [begin, end); on the CPU on the calling
/// thread alone.
void average_in_place(at::Tensor average, const at::Tensor& values, double rate, int64_t begin,
                      int64_t end);

}  // namespace tom
