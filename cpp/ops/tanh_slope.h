#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace tom {

/// g = p (1 - h^2), what the way back through h = tanh(z) makes of a gradient p, [S, M, B, O].
///
/// It is computed in the type of `like` and rounded to `type` at the end; p and h are in the type
/// of `like` or in bfloat16. Its sums over the rows, before they are rounded, are added to `sums`
/// [S, M, O] where that is given. p may be one row for all.
at::Tensor times_tanh_slope(const at::Tensor& p, const at::Tensor& h, const at::Tensor& like,
                            at::ScalarType type, at::Tensor sums = {});

/// The gradients in h and in p of what has the gradient g_bar in that g: -2 g_bar p h in the type
/// of `like`, and g_bar (1 - h^2) rounded to `type`.
std::pair<at::Tensor, at::Tensor> back_through_tanh_slope(const at::Tensor& g_bar,
                                                          const at::Tensor& p, const at::Tensor& h,
                                                          const at::Tensor& like,
                                                          at::ScalarType type);

}  // namespace tom
