// Sums over and searches in groups of numbers, each of which is one cache line: the inner loops of
// the weight tree.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

#include "replay/atomic.h"
#include "replay/vectors.h"

namespace tom::replay {

inline constexpr std::size_t kBlock = 16;  // leaves, of four bytes each
inline constexpr std::size_t kFan = 8;     // children of a node

inline std::size_t divide_up(std::size_t n, std::size_t by) { return (n + by - 1) / by; }

inline double relaxed(double& x) { return AtomicRef<double>(x).load(std::memory_order_relaxed); }
inline void relaxed(double& x, double value) {
  AtomicRef<double>(x).store(value, std::memory_order_relaxed);
}

#ifdef TOM_VECTOR_LOADS
// Eight words or doubles, or sixteen half words, at an aligned address. Each is loaded or stored
// whole, as x86-64 never splits an aligned lane of up to eight bytes of a vector access; the
// assembly keeps the compiler from assuming more, as relaxed atomic accesses would, which it does
// not know how to combine into a vector.
#ifdef TOM_AVX512
template <class V, class T>
V relaxed_vector(const T* from) {
  V v;
  asm("vmovdqa64 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const __m512i_u*>(from)));
  return v;
}
template <class T>
void relaxed_vector(T* to, const Eight& value) {
  asm("vmovapd %1, %0" : "=m"(*reinterpret_cast<__m512d_u*>(to)) : "v"(value));
}
#else
template <class V, class T>
V relaxed_vector(const T* from) {
  const auto* const halves = reinterpret_cast<const __m256i_u*>(from);
  decltype(V::low) low, high;
  asm("vmovdqa %1, %0" : "=x"(low) : "m"(halves[0]));
  asm("vmovdqa %1, %0" : "=x"(high) : "m"(halves[1]));
  return {low, high};
}
template <class T>
void relaxed_vector(T* to, const Eight& value) {
  auto* const halves = reinterpret_cast<__m256d_u*>(to);
  asm("vmovapd %1, %0" : "=m"(halves[0]) : "x"(value.low));
  asm("vmovapd %1, %0" : "=m"(halves[1]) : "x"(value.high));
}
#endif
#endif

// The sum of 16 weights is made in one fixed order: neighbours are added, then the halves of what
// that gives, and so on. A rewrite sums eight blocks together, from the eight vectors that the
// first addition left; an update sums one. Of the two vectors that are added each time one is a
// blend, as that is cheaper than a shuffle.
#ifdef TOM_AVX512
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
inline Four sum_of_halves(const Eight& s) {
  return __builtin_shufflevector(s, s, 0, 1, 2, 3) + __builtin_shufflevector(s, s, 4, 5, 6, 7);
}
// Numbers 0, 2, ... and 1, 3, ... of sixteen.
inline Eight even_of(const Eight& low, const Eight& high) {
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
}
inline Eight odd_of(const Eight& low, const Eight& high) {
  return __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}
inline double last_of(const Eight& v) { return v[7]; }
#else
inline Four sum_of_halves(const Eight& s) { return s.low + s.high; }
inline Eight block_sums(const std::array<Eight, 8>& s) {
  const auto pairs = [&](std::size_t i) {
    const Four a = sum_of_halves(s[i]), b = sum_of_halves(s[i + 2]);
    return __builtin_shufflevector(a, b, 0, 1, 6, 7) + __builtin_shufflevector(a, b, 2, 3, 4, 5);
  };
  const auto four = [&](std::size_t i) {
    const Four even = pairs(i), odd = pairs(i + 1);
    return __builtin_shufflevector(even, odd, 0, 5, 2, 7) +
           __builtin_shufflevector(even, odd, 1, 4, 3, 6);
  };
  return {four(0), four(4)};
}
inline Eight even_of(const Eight& low, const Eight& high) {
  return {__builtin_shufflevector(low.low, low.high, 0, 2, 4, 6),
          __builtin_shufflevector(high.low, high.high, 0, 2, 4, 6)};
}
inline Eight odd_of(const Eight& low, const Eight& high) {
  return {__builtin_shufflevector(low.low, low.high, 1, 3, 5, 7),
          __builtin_shufflevector(high.low, high.high, 1, 3, 5, 7)};
}
inline double last_of(const Eight& v) { return v.high[3]; }
#endif
// (0.0 at the end, as the sum of a block of which all weights are -0.0 would be -0.0.)
inline double block_sum(const Eight& s) {
  const Four quads = sum_of_halves(s);
  return (quads[0] + quads[2]) + (quads[1] + quads[3]) + 0.0;
}

// Bits that tell which of eight numbers are at most x.
inline unsigned bits_at_most(const Eight& v, double x) {
#ifdef TOM_AVX512
  return _mm512_cmp_pd_mask(v, _mm512_set1_pd(x), _CMP_LE_OQ);
#else
  return bits_of(by_register([x](const Doubles& d) { return d <= x; }, v));
#endif
}

// The position i of the first positive weight whose running sum w_0 + ... + w_i exceeds `target`,
// or 16 if there is none; from w_0, w_2, ... and w_1, w_3, .... Neighbours are added, and running
// sums of the eight pairs made in three doubling steps; for the first of a pair, the pairs before
// it and itself are added.
inline std::size_t covering(const Eight& even, const Eight& odd, double target) {
  const Eight one = even + odd;
#ifdef TOM_AVX512
  const auto shifted = [](const Eight& v, auto lanes) -> Eight {
    return _mm512_castsi512_pd(
        _mm512_alignr_epi64(_mm512_castpd_si512(v), _mm512_setzero_si512(), 8 - lanes.value));
  };
  const Eight two = one + shifted(one, std::integral_constant<int, 1>());
  const Eight four = two + shifted(two, std::integral_constant<int, 2>());
  const Eight with_pair = four + shifted(four, std::integral_constant<int, 4>());
  const Eight with_first = shifted(with_pair, std::integral_constant<int, 1>()) + even;
  const auto covers = [target](const Eight& sums, const Eight& weights) -> unsigned {
    const auto positive = _mm512_cmp_pd_mask(weights, _mm512_setzero_pd(), _CMP_GT_OQ);
    return _mm512_mask_cmp_pd_mask(positive, sums, _mm512_set1_pd(target), _CMP_GT_OQ);
  };
#else
  constexpr Four none = {};
  const auto shifted_by_one = [&](const Eight& v) {
    return Eight{__builtin_shufflevector(none, v.low, 3, 4, 5, 6),
                 __builtin_shufflevector(v.low, v.high, 3, 4, 5, 6)};
  };
  const Eight two = one + shifted_by_one(one);
  const Eight four = two + Eight{__builtin_shufflevector(none, two.low, 2, 3, 4, 5),
                                 __builtin_shufflevector(two.low, two.high, 2, 3, 4, 5)};
  const Eight with_pair{four.low, four.high + four.low};
  const Eight with_first = shifted_by_one(with_pair) + even;
  const auto covers = [target](const Eight& sums, const Eight& weights) {
    return bits_of(by_register(
        [target](const Doubles& s, const Doubles& w) { return (s > target) & (w > 0.0); }, sums,
        weights));
  };
#endif
  // Without a branch, which could not be predicted.
  const unsigned first = covers(with_first, even) | 1U << kFan, second = covers(with_pair, odd);
  const int pair = std::countr_zero(first | second);
  return 2 * static_cast<std::size_t>(pair) + (~first >> pair & 1);
}

}  // namespace tom::replay
