#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace tom {

/// (sum w)^2 / sum w^2 along the last axis; 0 where all weights are zero, or there are none.
at::Tensor effective_sample_size(const at::Tensor& weights);

}  // namespace tom
