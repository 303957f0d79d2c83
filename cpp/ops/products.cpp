#include "ops/products.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/blocked_product.h"
#include "ops/cpu_kernels.h"

namespace tom {
namespace {

// MKL's vector registers run along the columns of a row-major result. With fewer columns than a
// register has lanes most of them idle, and the transposed product is up to four times faster
// (measured with one and two threads, AVX-512, 256 rows: 1, 6, 12 and 14 columns gain, 24 lose).
constexpr int64_t kNarrow = 16;

at::Tensor flat(const at::Tensor& a, int64_t members) {
  return a.expand({-1, members, -1, -1}).flatten(0, 1);
}

void wide_product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (has_blocked_product(out)) return blocked_product_out(out, a, b);
  const int64_t seeds = out.size(0), members = out.size(1);
  if (seeds * members == 1) {
    auto matrix = out[0][0];
    at::mm_out(matrix, a[0][0], b[0][0]);
    return;
  }
  const bool shared = a.size(1) != b.size(1);
  if (!shared || seeds == 1 || !takes_cpu_kernels(a)) {
    auto matrices = out.flatten(0, 1);
    at::bmm_out(matrices, flat(a, members), flat(b, members));
    return;
  }
  // A batch has one stride, so a factor shared within each of several seeds would have to be
  // copied for every member. One call per seed avoids that.
  for (int64_t s = 0; s < seeds; ++s) {
    auto slice = out[s];
    at::bmm_out(slice, a[s].expand({members, -1, -1}), b[s].expand({members, -1, -1}));
  }
}

at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  auto out =
      at::empty({a.size(0), std::max(a.size(1), b.size(1)), a.size(2), b.size(3)}, a.options());
  wide_product_out(out, a, b);
  return out;
}

bool is_outer(const at::Tensor& a) { return takes_cpu_kernels(a) && a.size(3) == 1; }

bool is_narrow(const at::Tensor& a, const at::Tensor& b) {
  if (has_blocked_product(a) && a.stride(3) == 1) return false;  // it has dot products for that
  return takes_cpu_kernels(a) && b.size(3) < kNarrow && b.size(3) < a.size(2);
}

at::Tensor narrow_product(const at::Tensor& a, const at::Tensor& b) {
  return wide_product(b.transpose(2, 3), a.transpose(2, 3)).transpose(2, 3);
}

}  // namespace

at::Tensor member_product(const at::Tensor& a, const at::Tensor& b) {
  // An outer product: MKL takes ten times as long as a broadcast multiplication, tiles twice.
  if (is_outer(a)) return at::mul(a, b);
  return is_narrow(a, b) ? narrow_product(a, b) : wide_product(a, b);
}

void member_product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (out.scalar_type() != a.scalar_type()) {
    if (has_blocked_product(a)) return blocked_product_out(out, a, b);
    out.copy_(member_product(a, b));
  } else if (is_outer(a)) {
    at::mul_out(out, a, b);
  } else if (is_narrow(a, b)) {
    out.copy_(narrow_product(a, b));
  } else {
    wide_product_out(out, a, b);
  }
}

void member_product_add(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (out.scalar_type() != a.scalar_type()) {
    if (has_blocked_product(a)) return blocked_product_out(out, a, b, /*add=*/true);
    out.add_(member_product(a, b));
    return;
  }
  if (has_blocked_product(out)) return blocked_product_out(out, a, b, /*add=*/true);
  const int64_t members = out.size(1);
  out.flatten(0, 1).baddbmm_(flat(a, members), flat(b, members));
}

namespace {

at::Tensor checked_member_product(const at::Tensor& a, const at::Tensor& b) {
  const bool fits = a.dim() == 4 && b.dim() == 4 && a.size(0) == b.size(0) &&
                    a.size(3) == b.size(2) &&
                    (a.size(1) == b.size(1) || a.size(1) == 1 || b.size(1) == 1) &&
                    std::min(a.size(1), b.size(1)) > 0;
  TORCH_CHECK_VALUE(fits && a.scalar_type() == b.scalar_type() && a.device() == b.device(),
                    "member_product: got ", a.scalar_type(), " of shape ", a.sizes(), " and ",
                    b.scalar_type(), " of shape ", b.sizes(),
                    "; they must be [S, M or 1, m, k] and [S, M or 1, k, n] of one type on one ",
                    "device, with M >= 1.");
  return member_product(a, b);
}

}  // namespace

TORCH_LIBRARY_IMPL(tom_tests, CompositeExplicitAutograd, m) {
  m.impl("member_product", checked_member_product);
  m.impl("has_blocked_product", has_blocked_product);
  m.impl("use_blocked_products", use_blocked_products);
}

}  // namespace tom
