// Matrix products for stacks of small networks: panels of b that stay in the first-level cache,
// tiles of the result that stay in registers.

#include "ops/blocked_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "ops/cpu_kernels.h"
#include "ops/factors.h"
#include "ops/scratch.h"

namespace tom {
namespace {

using at::vec::Vectorized;

#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
constexpr bool kCompiled = true;
#else
constexpr bool kCompiled = false;
#endif

// A tile of the result has up to 12 rows of two vectors, which are 24 of AVX-512's 32 registers, or
// up to 6 rows, which are 12 of AVX2's 16. That leaves two registers for b and some for a, and from
// four rows on there are the chains that two multiply-add units must be fed with.
#ifdef CPU_CAPABILITY_AVX512
constexpr int64_t kTileRows = 12;
#else
constexpr int64_t kTileRows = 6;
#endif
constexpr int64_t kTileVectors = 2;
constexpr int64_t kDepth = 256;        // of a panel: with two vectors across, 16 or 32 KiB
constexpr int64_t kUnpackedRows = 24;  // fewer are not worth copying b for

std::atomic<bool> switched_on{true};

template <typename T>
using Word = typename Factor<T>::Word;
template <typename T>
using Sums = Vectorized<typename Factor<T>::Sum>;

// c [Rows, n] = (or +=) a [Rows, depth] b [depth, n] in words, where b has whole vectors in each
// row. If Rounded, the product is rounded to bfloat16 before it is stored or added.
template <typename T, typename C, bool Rounded, int Rows, int Vectors>
void tile(Block<const Word<T>> a, const Word<T>* b, int64_t b_row, C* c, int64_t c_row,
          int64_t depth, int64_t n, bool add) {
  using F = Factor<T>;
  using V = Sums<T>;
  const auto count = [&](int v) { return v + 1 < Vectors ? V::size() : n - v * V::size(); };
  const auto before = [&](int r, int v) {
    return load<typename F::Sum>(c + r * c_row + v * V::size(), count(v));
  };
  V sum[Rows][Vectors];
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[r][v] = add && !Rounded ? before(r, v) : V(0);
  }
  for (int64_t k = 0; k < depth; ++k) {
    typename F::Words b_k[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) b_k[v] = F::load(b + k * b_row + v * V::size());
#pragma GCC unroll 12
    for (int r = 0; r < Rows; ++r) {
      const auto a_k = F::broadcast(a.at(r, k));
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sum[r][v] = F::multiply_add(a_k, b_k[v], sum[r][v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
      if constexpr (Rounded) {
        sum[r][v] = F::rounded(sum[r][v]);
        if (add) sum[r][v] = before(r, v) + sum[r][v];
      }
      store(sum[r][v], c + r * c_row + v * V::size(), count(v));
    }
  }
}

template <typename T, typename C>
using Tile = void (*)(Block<const Word<T>>, const Word<T>*, int64_t, C*, int64_t, int64_t, int64_t,
                      bool);

template <typename T, typename C, bool Rounded, int Vectors, int... Rows>
constexpr std::array<Tile<T, C>, sizeof...(Rows)> tiles_of(std::integer_sequence<int, Rows...>) {
  return {tile<T, C, Rounded, Rows + 1, Vectors>...};
}

template <typename T, typename C, bool Rounded>
Tile<T, C> tile_for(int64_t rows, int64_t vectors) {
  static constexpr std::make_integer_sequence<int, kTileRows> kAll;
  static constexpr auto kOne = tiles_of<T, C, Rounded, 1>(kAll);
  static constexpr auto kTwo = tiles_of<T, C, Rounded, 2>(kAll);
  return (vectors == 1 ? kOne : kTwo)[rows - 1];
}

// A result of so few columns would leave most lanes of a tile idle.
constexpr int64_t kDotColumns = 4;

template <typename T>
T sum_of_lanes(Vectorized<T> v) {
  std::array<T, Vectorized<T>::size()> lanes;
  v.store(lanes.data());
  for (size_t half = lanes.size() / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// c [m, n] = (or +=) a [m, depth] b [depth, n], as dot products of rows of a, which are contiguous,
// with the columns of b, which are kDepth apart.
template <typename T, int n>
void dots(Block<const T> a, const T* b, Block<T> c, int64_t m, int64_t depth, bool add) {
  using V = Vectorized<T>;
  for (int64_t i = 0; i < m; ++i) {
    V sum[n];
    const auto step = [&](int64_t k, int64_t count) {
      const V a_k = V::loadu(a.at(i, k), count);
#pragma GCC unroll 4
      for (int j = 0; j < n; ++j) {
        sum[j] = at::vec::fmadd(a_k, V::loadu(b + j * kDepth + k, count), sum[j]);
      }
    };
    std::fill_n(sum, n, V(0));
    for_vectors<V>(depth, step);
    for (int j = 0; j < n; ++j) {
      const T dot = sum_of_lanes(sum[j]);
      *c.at(i, j) = add ? *c.at(i, j) + dot : dot;
    }
  }
}

template <typename T>
void dots_for(Block<const T> a, Block<const T> b, Block<T> c, int64_t m, int64_t depth, int64_t n,
              bool add, T* columns) {
  static constexpr std::array kAll{dots<T, 1>, dots<T, 2>, dots<T, 3>, dots<T, 4>};
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < depth; ++k) columns[j * kDepth + k] = *b.at(k, j);
  }
  kAll[n - 1](a, columns, c, m, depth, add);
}

// One panel of columns of the result, for all the given rows.
template <typename T, typename C, bool Rounded = Factor<T>::kRounded>
void panel(Block<const Word<T>> a, Block<const T> b, Block<C> c, int64_t m, int64_t k, int64_t n,
           bool add) {
  using S = typename Factor<T>::Sum;
  constexpr int64_t kLanes = Sums<T>::size(), kFold = Factor<T>::kFold;
  const int64_t vectors = (n + kLanes - 1) / kLanes, width = vectors * kLanes;
  const int64_t words = (k + kFold - 1) / kFold;
  if constexpr (Rounded) {
    if (words > kDepth) {  // what is kept from one part to the next must not be rounded
      thread_local Scratch<S> memory;
      S* sums = memory.of(m * width);
      panel<T, S, false>(a, b, {sums, width, 1}, m, k, n, false);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; j += kLanes) {
          const int64_t count = std::min(kLanes, n - j);
          const auto sum = Factor<T>::rounded(Sums<T>::loadu(sums + i * width + j));
          store(add ? load<S>(c.at(i, j), count) + sum : sum, c.at(i, j), count);
        }
      }
      return;
    }
  }
  const bool unpacked = kFold == 1 && m <= kUnpackedRows && b.column == 1 && n == width;
  alignas(64) thread_local std::array<Word<T>, kDepth * kTileVectors * kLanes> packed;
  const bool narrow = kFold == 1 && n <= kDotColumns && a.column == 1;
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < words; first += kDepth) {
    const int64_t depth = std::min(kDepth, words - first);
    const Block<const T> part{b.at(first * kFold, 0), b.row, b.column};
    const Word<T>* columns = packed.data();
    if constexpr (kFold == 1) {
      if (narrow) {
        dots_for({a.at(0, first), a.row, a.column}, part, c, m, depth, n, add || first > 0,
                 packed.data());
        continue;
      }
      if (unpacked) columns = part.data;
    }
    if (!unpacked) {
      Factor<T>::pack(part, std::min(depth * kFold, k - first * kFold), n, packed.data(), width);
    }
    for (int64_t t = 0; t < tiles; ++t) {  // of rows as even as can be
      const int64_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
      tile_for<T, C, Rounded>(rows, vectors)({a.at(row, first), a.row, a.column}, columns,
                                             unpacked ? b.row : width, c.at(row, 0), c.row, depth,
                                             n, add || first > 0);
    }
  }
}

template <typename T>
Block<const T> member(const at::Tensor& t, int64_t s, int64_t m) {
  return {t.const_data_ptr<T>() + s * t.stride(0) + (t.size(1) == 1 ? 0 : m * t.stride(1)),
          t.stride(2), t.stride(3)};
}

template <typename T, typename C>
void product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) {
  constexpr int64_t kWidth = kTileVectors * Sums<T>::size();
  const int64_t members = out.size(1), stacks = out.size(0) * members;
  const int64_t m = out.size(2), n = out.size(3), k = a.size(3);
  if (k == 0) {
    if (!add) out.zero_();
    return;
  }
  const int64_t panels = (n + kWidth - 1) / kWidth;
  // Enough tasks for every thread to have some, and few rows in each so that they stay in L2. Where
  // there are more threads than stacks each takes rows, as everywhere: it has a connected part of
  // the result, which is in its own cache if the next to use that is shared out alike.
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t wanted = std::max(4 * threads / std::max<int64_t>(1, stacks * panels),
                                  (threads + stacks - 1) / std::max<int64_t>(1, stacks));
  const int64_t blocks =
      std::max<int64_t>((m + kRowsAtOnce - 1) / kRowsAtOnce, std::min(wanted, m / (4 * kTileRows)));
  C* result = out.mutable_data_ptr<C>();
  const int64_t work = std::max<int64_t>(1, m * n * k / std::max<int64_t>(1, blocks * panels));
  const int64_t grain = std::max<int64_t>(1, kParallelWork / work);
  at::parallel_for(0, blocks * stacks * panels, grain, [&](int64_t begin, int64_t end) {
    Block<const Word<T>> a_rows{};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t column = task % panels * kWidth, block = task / panels % blocks;
      const int64_t stack = task / panels / blocks;
      const int64_t row = m * block / blocks, rows = m * (block + 1) / blocks - row;
      if (task == begin || column == 0) {  // the panels of the same rows follow each other
        const auto a_n = member<T>(a, stack / members, stack % members);
        a_rows = Factor<T>::words({a_n.at(row, 0), a_n.row, a_n.column}, rows, k);
      }
      const auto b_n = member<T>(b, stack / members, stack % members);
      panel<T, C>(a_rows, {b_n.at(0, column), b_n.row, b_n.column},
                  {result + (stack * m + row) * n + column, n, 1}, rows, k,
                  std::min(kWidth, n - column), add);
    }
  });
}

}  // namespace

bool has_blocked_product(const at::Tensor& a) {
#ifdef TOM_BFLOAT16_FACTORS
  if (a.scalar_type() == at::kBFloat16) return switched_on && takes_bfloat16_kernels(a);
#endif
  return kCompiled && switched_on && takes_float_kernels(a);
}

void blocked_product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b, bool add) {
#ifdef TOM_BFLOAT16_FACTORS
  if (a.scalar_type() == at::kBFloat16) {
    out.scalar_type() == at::kFloat ? product<at::BFloat16, float>(out, a, b, add)
                                    : product<at::BFloat16, at::BFloat16>(out, a, b, add);
    return;
  }
#endif
  a.scalar_type() == at::kFloat ? product<float, float>(out, a, b, add)
                                : product<double, double>(out, a, b, add);
}

template <typename T, typename Sum>
void block_product(Block<const T> a, Block<const T> b, int64_t m, int64_t k, int64_t n,
                   TakePart<Sum> take) {
  constexpr int64_t kWidth = kTileVectors * Sums<T>::size();
  static_assert(kWidth <= kPartStride);
  thread_local Scratch<Sum> memory;
  Sum* sums = memory.of(m * kPartStride);
  if (k == 0) std::fill_n(sums, m * kPartStride, Sum(0));
  const auto a_rows = Factor<T>::words(a, m, k);
  for (int64_t column = 0; column < n; column += kWidth) {
    const int64_t columns = std::min(kWidth, n - column);
    panel<T, Sum>(a_rows, {b.at(0, column), b.row, b.column}, {sums, kPartStride, 1}, m, k, columns,
                  /*add=*/false);
    take(sums, column, columns);
  }
}

template void block_product(Block<const float>, Block<const float>, int64_t, int64_t, int64_t,
                            TakePart<float>);
template void block_product(Block<const double>, Block<const double>, int64_t, int64_t, int64_t,
                            TakePart<double>);
#ifdef TOM_BFLOAT16_FACTORS
template void block_product(Block<const at::BFloat16>, Block<const at::BFloat16>, int64_t, int64_t,
                            int64_t, TakePart<float>);
#endif

bool use_blocked_products(bool on) { return switched_on.exchange(on); }

}  // namespace tom
