#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>

#include "ops/precision.h"

namespace tom {

/// Widest layers of which a block of rows fits into a program's registers: a hidden layer, and the
/// means or log-variances of a Gaussian.
constexpr int64_t kWidestFused = 256, kWidestFusedGaussian = 64;

/// Longest batch of which a program finds a mean by itself.
constexpr int64_t kLongestFusedBatch = 4096;

/// Whether so many networks, and vectors of so many numbers between the kernels, can be counted by
/// them: with 32 bits, and along a grid's second axis.
constexpr bool can_be_counted(int64_t networks, int64_t numbers) {
  return networks <= 65535 && numbers <= INT32_MAX;
}

/// Whether python/tom/kernels has registered a kernel of this operator for the device of `t`, and
/// it computes in this type and precision.
bool has_fused_kernel(const c10::OperatorHandle& op, const at::Tensor& t, Precision precision);

}  // namespace tom
