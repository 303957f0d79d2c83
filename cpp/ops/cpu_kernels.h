#pragma once

#include <ATen/core/Tensor.h>

namespace tom {

/// Whether what is written for the processor's own use (kernels, and products arranged as MKL likes
/// them) takes this tensor; everything else is composed of ATen operations. It does on the CPU,
/// unless `use_cpu_kernels(false)` was called, so that the way of the other devices can be compared
/// with the CPU's where there is no other device.
bool takes_cpu_kernels(const at::Tensor& t);

/// The same, for kernels that exist for float32 and float64.
bool takes_float_kernels(const at::Tensor& t);

/// The same, for kernels that read or write bfloat16: they may be compiled to instructions that the
/// processor lacks, if the build was carried to it from another one. (tom._processor cannot tell,
/// as not every kernel of Linux lists these.)
bool takes_bfloat16_kernels(const at::Tensor& t);

/// Raises ValueError if bfloat16 kernels would take this tensor, but the processor lacks their
/// instructions. `given` says what was given.
void check_bfloat16(const at::Tensor& t, const char* given);

/// Returns what was set before. It holds for the whole process, and must not be changed between a
/// forward pass and its way back: they leave each other different numbers. (stacked_mlp refuses
/// it.)
bool use_cpu_kernels(bool on);

/// The same, for those of bfloat16: off, it is as on a processor that lacks their instructions.
bool use_bfloat16_kernels(bool on);

}  // namespace tom
