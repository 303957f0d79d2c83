// Sums over and searches in groups of 16 numbers: the inner loops of the weight tree.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "replay/atomic.h"

// Whole vectors where the processor has them, unless a checker has to see each access.
#if defined(__AVX512F__) && !defined(__SANITIZE_THREAD__) && !defined(TOM_INTERLEAVE)
#include <immintrin.h>
#define TOM_VECTOR_LOADS
#endif

namespace tom::replay {

inline constexpr std::size_t kFan = 16;

// Numbers that the compiler keeps in whatever vector registers there are.
using Four [[gnu::vector_size(32)]] = double;
using Eight [[gnu::vector_size(64)]] = double;
using EightWords [[gnu::vector_size(64)]] = std::uint64_t;

inline double relaxed(double& x) { return AtomicRef<double>(x).load(std::memory_order_relaxed); }
inline void relaxed(double& x, double value) {
  AtomicRef<double>(x).store(value, std::memory_order_relaxed);
}

// A group of 16 numbers is two cache lines.
template <class T>
void prefetch_group(const T* numbers, std::size_t group) {
  __builtin_prefetch(numbers + group * kFan);
  __builtin_prefetch(numbers + group * kFan + kFan / 2);
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

// The sum of 16 weights is made in one fixed order: the halves are added, then the halves of the
// sum, and so on. A rewrite sums eight blocks together, from the eight vectors that the first
// addition left; an update sums one.
// (0.0 at the end, as the sum of a block of which all weights are -0.0 would be -0.0.)
inline Eight block_sums(const std::array<Eight, 8>& s) {
  const auto quads = [&](std::size_t i) {
    return __builtin_shufflevector(s[i], s[i + 1], 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(s[i], s[i + 1], 4, 5, 6, 7, 12, 13, 14, 15);
  };
  const auto pairs = [](const Eight& p, const Eight& q) {
    return __builtin_shufflevector(p, q, 0, 1, 4, 5, 8, 9, 12, 13) +
           __builtin_shufflevector(p, q, 2, 3, 6, 7, 10, 11, 14, 15);
  };
  const Eight first = pairs(quads(0), quads(2)), second = pairs(quads(4), quads(6));
  return __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14) +
         __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15) + 0.0;
}
inline double block_sum(const Eight& s) {
  const Four quads =
      __builtin_shufflevector(s, s, 0, 1, 2, 3) + __builtin_shufflevector(s, s, 4, 5, 6, 7);
  return (quads[0] + quads[2]) + (quads[1] + quads[3]) + 0.0;
}

// For 16 totals, given in halves: the sums of those to the left of each, and the sum of all. In
// fours, as one long chain of additions would take twice as long.
struct NodeSums {
  Eight low, high;
  double sum;
};
inline NodeSums node_sums(const Eight& low, const Eight& high) {
  // Lane q is of the q-th four: its first entry, and the sums of its first two, three and four.
  const Four one = __builtin_shufflevector(low, high, 0, 4, 8, 12);
  const Four two = one + __builtin_shufflevector(low, high, 1, 5, 9, 13);
  const Four three = two + __builtin_shufflevector(low, high, 2, 6, 10, 14);
  const Four four = three + __builtin_shufflevector(low, high, 3, 7, 11, 15);
  const double first = four[0], second = first + four[1], third = second + four[2];
  const Four sum = {0.0, first, second, third};
  const auto side_by_side = [](const Four& x, const Four& y) {
    return __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7);
  };
  const Eight start = side_by_side(sum, sum + one);
  const Eight end = side_by_side(sum + two, sum + three);
  return {__builtin_shufflevector(start, end, 0, 4, 8, 12, 1, 5, 9, 13),
          __builtin_shufflevector(start, end, 2, 6, 10, 14, 3, 7, 11, 15), third + four[3]};
}

// Writes to before[i] the sum of the totals left of i, for 16 totals, and returns the sum of all.
inline double sum_node(double* totals, std::uint64_t* before) {
#ifdef TOM_VECTOR_LOADS
  const NodeSums sums = node_sums(relaxed_eight(totals), relaxed_eight(totals + 8));
  relaxed_eight(before, sums.low);
  relaxed_eight(before + 8, sums.high);
#else
  Eight low, high;
  for (std::size_t i = 0; i < 8; ++i) {
    low[i] = relaxed(totals[i]);
    high[i] = relaxed(totals[i + 8]);
  }
  const NodeSums sums = node_sums(low, high);
  const auto write = [before](std::size_t i, double sum) {
    AtomicRef<std::uint64_t>(before[i]).store(bits(sum), std::memory_order_relaxed);
  };
  for (std::size_t i = 0; i < 8; ++i) {
    write(i, sums.low[i]);
    write(i + 8, sums.high[i]);
  }
#endif
  return sums.sum;
}

// Position of the last of 16 increasing numbers that is <= x, if the first is 0 <= x. It counts
// instead of branching, as the branches could not be predicted.
inline std::size_t last_at_most(std::uint64_t* before, std::uint64_t x) {
#ifdef TOM_VECTOR_LOADS
  const __m512i limit = _mm512_set1_epi64(static_cast<long long>(x));
  const __mmask8 low = _mm512_cmple_epu64_mask(relaxed_eight(before), limit);
  const __mmask8 high = _mm512_cmple_epu64_mask(relaxed_eight(before + 8), limit);
  const unsigned passed = _mm512_kunpackb(high, low);
  return static_cast<std::size_t>(std::popcount(passed & ~1U));
#else
  // Among every fourth, then in between.
  const auto passed = [&](std::size_t i) {
    return static_cast<std::size_t>(relaxed_bits(before[i]) <= x);
  };
  const std::size_t i = 4 * (passed(4) + passed(8) + passed(12));
  return i + passed(i + 1) + passed(i + 2) + passed(i + 3);
#endif
}

// For many targets: takes from each what is to the left of its position, which goes to `child`.
// Their number is a multiple of eight. The 16 numbers stay in registers, where eight targets at a
// time halve what may be their position.
inline void search_node(std::uint64_t* before, double* targets, std::size_t* child, std::size_t n) {
#ifdef TOM_VECTOR_LOADS
  const __m512i low = relaxed_eight(before), high = relaxed_eight(before + 8);
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
    child[i] = last_at_most(before, bits(targets[i]));
    targets[i] -= std::bit_cast<double>(relaxed_bits(before[child[i]]));
  }
#endif
}

// The position i of the first positive weight whose running sum w_0 + ... + w_i exceeds `target`,
// or 16 if there is none. The sums are made in three doubling steps within each half, then the
// first half's total is added to the second's: in the same order with vectors and without.
#ifdef TOM_VECTOR_LOADS
inline std::size_t covering(const __m512d low, const __m512d high, double target) {
  const auto shifted = [](const __m512d v, auto lanes) {
    return _mm512_castsi512_pd(
        _mm512_alignr_epi64(_mm512_castpd_si512(v), _mm512_setzero_si512(), 8 - lanes.value));
  };
  const auto running = [&](const __m512d w) {
    const __m512d two = w + shifted(w, std::integral_constant<int, 1>());
    const __m512d four = two + shifted(two, std::integral_constant<int, 2>());
    return four + shifted(four, std::integral_constant<int, 4>());
  };
  const __m512d first = running(low);
  const __m512d total = _mm512_permutexvar_pd(_mm512_set1_epi64(7), first);
  const __m512d second = running(high) + total;
  const __m512d limit = _mm512_set1_pd(target), zero = _mm512_setzero_pd();
  const auto found = [&](const __m512d sums, const __m512d w) -> unsigned {
    return _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(w, zero, _CMP_GT_OQ), sums, limit,
                                   _CMP_GT_OQ);
  };
  return static_cast<std::size_t>(
      std::countr_zero(found(first, low) | found(second, high) << 8 | 1U << kFan));
}
#else
inline std::size_t covering(const std::array<double, kFan>& w, double target) {
  std::array<double, kFan> sums = w;
  for (const std::size_t step : {1, 2, 4}) {
    for (std::size_t i = kFan; i-- > 0;) {
      if (i % 8 >= step) sums[i] += sums[i - step];
    }
  }
  for (std::size_t i = 8; i < kFan; ++i) sums[i] += sums[7];
  for (std::size_t i = 0; i < kFan; ++i) {
    if (w[i] > 0.0 && sums[i] > target) return i;
  }
  return kFan;
}
#endif

}  // namespace tom::replay
