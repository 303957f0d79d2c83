#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <tuple>

namespace tom {

/// (sum w)^2 / sum w^2 along the last axis; 0 where all weights are zero, or there are none.
at::Tensor effective_sample_size(const at::Tensor& weights);

/// f*'(delta) along the last axis, [..., B]; with `quadratic`, that of the chi2 conjugates over all
/// real x, which has no threshold.
at::Tensor conjugate_slope(const at::Tensor& delta, std::string_view divergence, bool quadratic);

}  // namespace tom
