#include "ops/fused_kernels.h"

namespace tom {

bool has_fused_kernel(const c10::OperatorHandle& op, const at::Tensor& t, Precision precision) {
  // On the processor there are none, but tests register some that are interpreted.
  const auto key = t.is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU;
  return (t.is_cuda() || t.is_cpu()) && t.scalar_type() == at::kFloat &&
         precision != Precision::bf16 && op.hasKernelForDispatchKey(key);
}

}  // namespace tom
