#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

namespace tom {

constexpr int64_t kRowsAtOnce = 512;        // so many of depth 256 take half of L2
constexpr int64_t kParallelWork = 1 << 16;  // multiply-adds worth waking another thread for

/// Whether `blocked_product_out` takes factors like these: float32 or float64 on the CPU where the
/// library is compiled for AVX-512 or AVX2, bfloat16 where it is for AVX512-BF16, and the switch
/// below on.
bool has_blocked_product(const at::Tensor& a);

/// out [S, M, m, n] = a [S, M or 1, m, k] b [S, M or 1, k, n], or added to it; of any strides but
/// for `out`, which is contiguous. Of bfloat16 factors `out` may be float32: the product, summed in
/// float32, is rounded to bfloat16 all the same.
///
/// The products of these networks are too small for MKL to pack their factors well: on a Zen 5 held
/// to AVX2 it reaches six sevenths of these products' speed. On processors of other makers than
/// Intel it keeps to AVX2, which is half of what AVX-512 gives where the vector units are 512 bits
/// wide. The additions of an element, one chain of fused multiply-adds in the order of k or one for
/// each lane of a vector, depend neither on the number of threads nor on the other rows.
void blocked_product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b,
                         bool add = false);

/// A matrix inside other memory, with its strides in elements.
template <typename T>
struct Block {
  T* data;
  int64_t row, column;
  T* at(int64_t i, int64_t j) const { return data + i * row + j * column; }
};

/// Columns [column, column + columns) of a product: `sums` [m, columns], its rows `kPartStride`
/// apart.
template <typename Sum>
using TakePart = c10::function_ref<void(const Sum* sums, int64_t column, int64_t columns)>;
constexpr int64_t kPartStride = 32;

/// a [m, k] b [k, n] on the calling thread, T being float, double or (with sums of float) BFloat16,
/// handed over in parts while each is in the first levels of the cache.
template <typename T, typename Sum>
void block_product(Block<const T> a, Block<const T> b, int64_t m, int64_t k, int64_t n,
                   TakePart<Sum> take);

/// Turns it off (the products are then ATen's, that is MKL's) or on; returns what it was. For
/// comparisons: it is on by default, and not meant to be switched while a product is computed.
bool use_blocked_products(bool on);

}  // namespace tom
