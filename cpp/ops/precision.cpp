#include "ops/precision.h"

#include <algorithm>

#include "ops/cpu_kernels.h"
#include "ops/vectorized.h"

namespace tom {

using at::Tensor;

Precision precision_from(std::string_view name) {
  if (name == "fp32") return Precision::fp32;
  if (name == "tf32") return Precision::tf32;
  TORCH_CHECK_VALUE(name == "bf16", "precision '", name,
                    "' is unknown; use 'fp32', 'tf32' or 'bf16'.");
  return Precision::bf16;
}

ProductWeights::ProductWeights(const Tensor& flat, const Layers& layers, Precision precision)
    : weights_(layers.weights) {
  if (precision != Precision::bf16 || weights_.size() < 3) return;
  TORCH_CHECK_VALUE(flat.scalar_type() == at::kFloat, "precision bf16 was given with ",
                    flat.scalar_type(), " parameters; it goes with float32 ones.");
  check_bfloat16(flat, "precision bf16 was given");
  // The weights lie one behind the other, with biases between: one cast takes them all.
  const auto offset = [&](const Tensor& t) { return t.storage_offset() - flat.storage_offset(); };
  begin_ = offset(layers.weights[1]);
  wide_ = flat.narrow(0, begin_, offset(layers.weights.back()) - begin_);
  rounded_ = wide_.to(at::kBFloat16);
  for (size_t l = 1; l + 1 < weights_.size(); ++l) {
    const Tensor& weight = layers.weights[l];
    weights_[l] = rounded_.narrow(0, offset(weight) - begin_, weight.numel()).view(weight.sizes());
  }
}

void ProductWeights::refresh(int64_t begin, int64_t end) {
  if (!rounded_.defined()) return;
  begin = std::max(begin - begin_, int64_t{0});
  end = std::min(end - begin_, wide_.numel());
  if (begin >= end) return;
  if (!takes_cpu_kernels(wide_)) {
    rounded_.narrow(0, begin, end - begin).copy_(wide_.narrow(0, begin, end - begin));
    return;
  }
  using V = at::vec::Vectorized<float>;
  const float* from = wide_.const_data_ptr<float>();
  auto* to = rounded_.mutable_data_ptr<at::BFloat16>();
  for (int64_t i = begin; i < end; i += V::size()) {
    const int64_t n = std::min<int64_t>(V::size(), end - i);
    store(V::loadu(from + i, n), to + i, n);
  }
}

}  // namespace tom
