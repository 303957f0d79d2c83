// Sums over and searches in the groups of the weight tree, each of which is one cache line: its
// inner loops.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "replay/atomic.h"

// Whole vectors where the processor has them, unless a checker has to see each access.
#if defined(__AVX512F__) && defined(__BMI2__) && !defined(__SANITIZE_THREAD__) && \
    !defined(TOM_INTERLEAVE)
#include <immintrin.h>
#define TOM_VECTOR_LOADS
#endif

namespace tom::replay {

inline constexpr std::size_t kBlock = 16;  // leaves, of four bytes each
inline constexpr std::size_t kFan = 8;     // children of a node

inline std::size_t divide_up(std::size_t n, std::size_t by) { return (n + by - 1) / by; }

// Numbers that the compiler keeps in whatever vector registers there are.
using Four [[gnu::vector_size(32)]] = double;
using Eight [[gnu::vector_size(64)]] = double;
using EightWords [[gnu::vector_size(64)]] = std::uint64_t;

inline double relaxed(double& x) { return AtomicRef<double>(x).load(std::memory_order_relaxed); }
inline void relaxed(double& x, double value) {
  AtomicRef<double>(x).store(value, std::memory_order_relaxed);
}

// The bits of doubles that are not negative order as the doubles do; those of negative ones and of
// NaN are above them all.
inline std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }
inline std::uint64_t relaxed_bits(std::uint64_t& x) {
  return AtomicRef<std::uint64_t>(x).load(std::memory_order_relaxed);
}

#ifdef TOM_VECTOR_LOADS
// Eight words or doubles, or sixteen half words, at an aligned address. Each is loaded or stored
// whole, as x86-64 never splits an aligned lane of up to eight bytes of a vector access; the
// assembly keeps the compiler from assuming more, as relaxed atomic accesses would, which it does
// not know how to combine into a vector.
inline __m512i relaxed_sixteen(const std::uint32_t* from) {
  __m512i v;
  asm("vmovdqa64 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const __m512i_u*>(from)));
  return v;
}
inline __m512i relaxed_eight(const std::uint64_t* from) {
  __m512i v;
  asm("vmovdqa64 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const __m512i_u*>(from)));
  return v;
}
inline __m512d relaxed_eight(const double* from) {
  __m512d v;
  asm("vmovapd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const __m512d_u*>(from)));
  return v;
}
inline void relaxed_eight(std::uint64_t* to, __m512d value) {
  asm("vmovapd %1, %0" : "=m"(*reinterpret_cast<__m512d_u*>(to)) : "v"(value));
}
#endif

// The sum of 16 weights is made in one fixed order: neighbours are added, then the halves of what
// that gives, and so on. A rewrite sums eight blocks together, from the eight vectors that the
// first addition left; an update sums one. Of the two vectors that are added each time one is a
// blend, as that is cheaper than a shuffle.
inline Eight block_sums(const std::array<Eight, 8>& s) {
  const auto quads = [](const Eight& a, const Eight& b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 12, 13, 14, 15) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 8, 9, 10, 11);
  };
  const auto pairs = [](const Eight& a, const Eight& b) {
    return __builtin_shufflevector(a, b, 0, 1, 10, 11, 4, 5, 14, 15) +
           __builtin_shufflevector(a, b, 2, 3, 8, 9, 6, 7, 12, 13);
  };
  const Eight even = pairs(quads(s[0], s[4]), quads(s[2], s[6]));
  const Eight odd = pairs(quads(s[1], s[5]), quads(s[3], s[7]));
  return __builtin_shufflevector(even, odd, 0, 9, 2, 11, 4, 13, 6, 15) +
         __builtin_shufflevector(even, odd, 1, 8, 3, 10, 5, 12, 7, 14);
}
// (0.0 at the end, as the sum of a block of which all weights are -0.0 would be -0.0.)
inline double block_sum(const Eight& s) {
  const Four quads =
      __builtin_shufflevector(s, s, 0, 1, 2, 3) + __builtin_shufflevector(s, s, 4, 5, 6, 7);
  return (quads[0] + quads[2]) + (quads[1] + quads[3]) + 0.0;
}
// Weights w_0, w_2, ... and w_1, w_3, ... of halves, whose sum is the first addition.
inline Eight even_of(const Eight& low, const Eight& high) {
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
}
inline Eight odd_of(const Eight& low, const Eight& high) {
  return __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}

// The totals of eight children, and for each the sum of those to its left.
struct Node {
  std::array<double, kFan> totals;
  std::array<std::uint64_t, kFan> before;  // bits of doubles >= 0, which order as the doubles do
};

inline void prefetch_sums(const Node& node) { __builtin_prefetch(node.before.data()); }
inline void prefetch(const Node& node) {
  __builtin_prefetch(node.totals.data());
  prefetch_sums(node);
}

#ifdef TOM_VECTOR_LOADS
inline Eight load_totals(Node& node) { return relaxed_eight(node.totals.data()); }
inline void store_before(Node& node, const Eight& before) {
  relaxed_eight(node.before.data(), before);
}
#else
inline Eight load_totals(Node& node) {
  Eight totals;
  for (std::size_t i = 0; i < kFan; ++i) totals[i] = relaxed(node.totals[i]);
  return totals;
}
inline void store_before(Node& node, const Eight& before) {
  for (std::size_t i = 0; i < kFan; ++i) {
    AtomicRef<std::uint64_t>(node.before[i]).store(bits(before[i]), std::memory_order_relaxed);
  }
}
#endif

// What is left of each of eight totals. In fours, as one long chain of additions would take twice
// as long; each sum is at least the one before it, whatever the rounding.
inline Eight sums_before(const Eight& totals) {
  constexpr Eight none = {};
  Eight sums = __builtin_shufflevector(totals, none, 8, 0, 1, 2, 8, 4, 5, 6);
  sums += __builtin_shufflevector(sums, none, 8, 8, 1, 8, 8, 8, 5, 8);
  sums += __builtin_shufflevector(sums, none, 8, 8, 8, 2, 8, 8, 8, 6);
  const Eight with_own = sums + totals;
  return sums + __builtin_shufflevector(with_own, none, 8, 8, 8, 8, 3, 3, 3, 3);
}
inline double sum_of_all(const Eight& before, const Eight& totals) {
  return before[kFan - 1] + totals[kFan - 1];
}

// A level's nodes, and the level of their own sums above it.
struct Level {
  Node* nodes;
  Node* above;

  // Gives a node new totals. Not while another thread can see it.
  void set(std::size_t node, const Eight& totals) const {
    const Eight before = sums_before(totals);
    std::memcpy(&nodes[node].totals, &totals, sizeof totals);
    std::memcpy(&nodes[node].before, &before, sizeof before);
    above[node / kFan].totals[node % kFan] = sum_of_all(before, totals);
  }

  // Sums a node afresh from its totals.
  void sum(std::size_t node) const {
    const Eight totals = load_totals(nodes[node]);
    const Eight before = sums_before(totals);
    store_before(nodes[node], before);
    relaxed(above[node / kFan].totals[node % kFan], sum_of_all(before, totals));
  }
};

// Position of the last of eight increasing numbers that is <= x, if the first is 0 <= x. It counts
// instead of branching, as the branches could not be predicted.
inline std::size_t last_at_most(Node& node, std::uint64_t x) {
#ifdef TOM_VECTOR_LOADS
  const __m512i limit = _mm512_set1_epi64(static_cast<long long>(x));
  const unsigned passed = _mm512_cmple_epu64_mask(relaxed_eight(node.before.data()), limit);
  return static_cast<std::size_t>(std::popcount(passed & ~1U));
#else
  // In the middle, then in the half.
  const auto passed = [&](std::size_t i) {
    return static_cast<std::size_t>(relaxed_bits(node.before[i]) <= x);
  };
  const std::size_t i = 4 * passed(4);
  return i + passed(i + 1) + passed(i + 2) + passed(i + 3);
#endif
}

// The top of the tree: up to 16 totals, in two nodes whose sums run through both. Every search
// passes here, many together, so that one wide step costs less than two.
struct Root {
  static constexpr std::size_t kSize = 2 * kFan;

  Node* nodes;
  double* total;

  void sum() const {
    const Eight low = load_totals(nodes[0]), high = load_totals(nodes[1]);
    const Eight before_low = sums_before(low);
    const Eight before_high = sums_before(high) + sum_of_all(before_low, low);
    store_before(nodes[0], before_low);
    store_before(nodes[1], before_high);
    relaxed(*total, sum_of_all(before_high, high));
  }

  // For many targets: takes from each what is to the left of its position, which goes to `child`.
  // Their number is a multiple of eight. The 16 numbers stay in registers, where eight targets at a
  // time halve what may be their position.
  void search(double* targets, std::size_t* child, std::size_t n) const {
#ifdef TOM_VECTOR_LOADS
    const __m512i low = relaxed_eight(nodes[0].before.data());
    const __m512i high = relaxed_eight(nodes[1].before.data());
    for (std::size_t at = 0; at < n; at += 8) {
      const __m512d target = _mm512_loadu_pd(targets + at);
      __m512i i = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int step = 8; step > 0; step /= 2) {
        const __m512i next = _mm512_add_epi64(i, _mm512_set1_epi64(step));
        const __m512i there = _mm512_permutex2var_epi64(low, next, high);
        i = _mm512_mask_mov_epi64(i, _mm512_cmple_epu64_mask(there, _mm512_castpd_si512(target)),
                                  next);
      }
      const __m512d left = _mm512_castsi512_pd(_mm512_permutex2var_epi64(low, i, high));
      _mm512_storeu_pd(targets + at, target - left);
      _mm512_storeu_si512(child + at, i);
    }
#else
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t target = bits(targets[i]);
      const std::size_t node = relaxed_bits(nodes[1].before[0]) <= target ? 1 : 0;
      const std::size_t at = last_at_most(nodes[node], target);
      child[i] = node * kFan + at;
      targets[i] -= std::bit_cast<double>(relaxed_bits(nodes[node].before[at]));
    }
#endif
  }
};

// The position i of the first positive weight whose running sum w_0 + ... + w_i exceeds `target`,
// or 16 if there is none. Neighbours are added, and running sums of the eight pairs made in three
// doubling steps; for the first of a pair, the pairs before it and itself are added: in the same
// order with vectors and without.
#ifdef TOM_VECTOR_LOADS
// From w_0, w_2, ... and w_1, w_3, ..., and bits that tell which of the 16 are positive.
inline std::size_t covering(const Eight& even, const Eight& odd, unsigned positive, double target) {
  const auto shifted = [](const Eight& v, auto lanes) -> Eight {
    return _mm512_castsi512_pd(
        _mm512_alignr_epi64(_mm512_castpd_si512(v), _mm512_setzero_si512(), 8 - lanes.value));
  };
  const Eight one = even + odd;
  const Eight two = one + shifted(one, std::integral_constant<int, 1>());
  const Eight four = two + shifted(two, std::integral_constant<int, 2>());
  const Eight with_pair = four + shifted(four, std::integral_constant<int, 4>());
  const Eight with_first = shifted(with_pair, std::integral_constant<int, 1>()) + even;
  const __m512d limit = _mm512_set1_pd(target);
  const unsigned exceeds = _pdep_u32(_mm512_cmp_pd_mask(with_first, limit, _CMP_GT_OQ), 0x5555) |
                           _pdep_u32(_mm512_cmp_pd_mask(with_pair, limit, _CMP_GT_OQ), 0xaaaa);
  return static_cast<std::size_t>(std::countr_zero((exceeds & positive) | 1U << kBlock));
}
#else
inline std::size_t covering(const std::array<double, kBlock>& w, double target) {
  std::array<double, kBlock / 2> sums;
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = w[2 * i] + w[2 * i + 1];
  for (const std::size_t step : {1, 2, 4}) {
    for (std::size_t i = sums.size(); i-- > step;) sums[i] += sums[i - step];
  }
  for (std::size_t i = 0; i < kBlock; ++i) {
    const double before = i < 2 ? 0.0 : sums[i / 2 - 1];
    const double sum = i % 2 == 0 ? before + w[i] : sums[i / 2];
    if (w[i] > 0.0 && sum > target) return i;
  }
  return kBlock;
}
#endif

}  // namespace tom::replay
