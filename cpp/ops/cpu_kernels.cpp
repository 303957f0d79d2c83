#include "ops/cpu_kernels.h"

#include <torch/library.h>

#include <atomic>

namespace tom {
namespace {

std::atomic<bool> enabled{true}, bfloat16_enabled{true};

// Where the library is compiled to instructions for bfloat16, its kernels have them.
bool has_bfloat16_instructions() {
#ifdef __AVX512BF16__
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
#else
  return true;
#endif
}

}  // namespace

bool takes_cpu_kernels(const at::Tensor& t) {
  return t.is_cpu() && enabled.load(std::memory_order_relaxed);
}

bool takes_float_kernels(const at::Tensor& t) {
  return takes_cpu_kernels(t) && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

bool takes_bfloat16_kernels(const at::Tensor& t) {
  return takes_cpu_kernels(t) && bfloat16_enabled.load(std::memory_order_relaxed) &&
         has_bfloat16_instructions();
}

void check_bfloat16(const at::Tensor& t, const char* given) {
  TORCH_CHECK_VALUE(!takes_cpu_kernels(t) || takes_bfloat16_kernels(t), given,
                    " on a processor without the AVX512-BF16 instructions that tom was built to; ",
                    "use float32, or build tom here from its sources.");
}

bool use_cpu_kernels(bool on) { return enabled.exchange(on); }

bool use_bfloat16_kernels(bool on) { return bfloat16_enabled.exchange(on); }

TORCH_LIBRARY_IMPL(tom_tests, CompositeExplicitAutograd, m) {
  m.impl("use_cpu_kernels", use_cpu_kernels);
  m.impl("use_bfloat16_kernels", use_bfloat16_kernels);
}

}  // namespace tom
