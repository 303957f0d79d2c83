#include "ops/precision.h"

#include <ATen/ops/empty.h>

namespace tom {

using at::Tensor;

Precision precision_from(std::string_view name) {
  if (name == "fp32") return Precision::fp32;
  TORCH_CHECK_VALUE(name == "bf16", "precision '", name, "' is unknown; use 'fp32' or 'bf16'.");
  return Precision::bf16;
}

ProductWeights::ProductWeights(const Tensor& flat, const Layers& layers, Precision precision)
    : weights_(layers.weights) {
  if (precision == Precision::fp32 || weights_.size() < 3) return;
  TORCH_CHECK_VALUE(flat.scalar_type() == at::kFloat, "precision bf16 was given with ",
                    flat.scalar_type(), " parameters; it goes with float32 ones.");
  // The weights lie one behind the other, with biases between: one cast takes them all.
  const auto offset = [&](const Tensor& t) { return t.storage_offset() - flat.storage_offset(); };
  const int64_t begin = offset(layers.weights[1]), end = offset(layers.weights.back());
  wide_ = flat.narrow(0, begin, end - begin);
  rounded_ = wide_.to(at::kBFloat16);
  for (size_t l = 1; l + 1 < weights_.size(); ++l) {
    const Tensor& weight = layers.weights[l];
    weights_[l] = rounded_.narrow(0, offset(weight) - begin, weight.numel()).view(weight.sizes());
  }
}

void ProductWeights::refresh() {
  if (rounded_.defined()) rounded_.copy_(wide_);
}

}  // namespace tom
