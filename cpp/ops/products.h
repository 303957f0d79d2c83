#pragma once

#include <ATen/core/Tensor.h>

namespace tom {

/// The matrix products of a stack: a [S, M, m, k] times b [S, M, k, n] gives [S, M, m, n].
///
/// Either factor may have M = 1 and is then shared by the members of its seed without being copied.
/// The result is the caller's own memory but need not be contiguous.
at::Tensor member_product(const at::Tensor& a, const at::Tensor& b);

/// The same, into `out` [S, M, m, n], which must be contiguous and may be of a wider type.
void member_product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b);

/// The same, added to `out`.
void member_product_add(at::Tensor out, const at::Tensor& a, const at::Tensor& b);

}  // namespace tom
