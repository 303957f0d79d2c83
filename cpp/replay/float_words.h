// Weights as the words of float32 numbers, in vectors: which numbers they are, and the way back.
#pragma once

#include <bit>
#include <cstdint>

#include "replay/vectors.h"

namespace tom::replay {

// Numbers that are 2^-896 times as large as the float32 numbers they are made of: the bits of a
// double that come after the sign, of which the exponent is that of the float. Nothing is shuffled,
// as a conversion would; sums are rounded as if they were not scaled. A bad float gives a large
// number, as its sign becomes a bit of the exponent, and infinity and NaN are numbers from 2^128
// on.
inline constexpr double kScale = 0x1p896;
inline constexpr double kMaxScaled = 0x1.fffffffffffffp127 / kScale;
static_assert(std::endian::native == std::endian::little);
inline constexpr std::uint64_t kWithSign = 0x1fffffffe0000000;
inline constexpr std::uint64_t kWithoutSign = 0x0fffffffe0000000;  // -0.0 is 0 then
inline Eight scaled_even(const Sixteen& words, std::uint64_t kept) {
  return by_register(
      [kept](const HalfWords& w) {
        return reinterpret_cast<Doubles>(reinterpret_cast<Words>(w) << 29 & kept);
      },
      words);
}
inline Eight scaled_odd(const Sixteen& words, std::uint64_t kept) {
  return by_register(
      [kept](const HalfWords& w) {
        return reinterpret_cast<Doubles>(reinterpret_cast<Words>(w) >> 3 & kept);
      },
      words);
}

inline Sixteen smaller(const Sixteen& a, const Sixteen& b) {
  return by_register([](const HalfWords& x, const HalfWords& y) { return x < y ? x : y; }, a, b);
}

// One less, which makes of 0 the largest word, with all bits set.
inline Sixteen less_one(const Sixteen& words) {
  return by_register([](const HalfWords& w) { return w - 1U; }, words);
}

inline bool any_below(const Sixteen& words, std::uint32_t limit) {
  return any(by_register([limit](const HalfWords& w) { return w < limit; }, words));
}

inline Sixteen largest_words() { return less_one(Sixteen{}); }

inline EightFlags up_to(double limit, const Eight& v) {
  return by_register([limit](const Doubles& d) { return d <= limit; }, v);
}
inline EightFlags all_set() { return up_to(0.0, Eight{}); }

inline EightFlags negative(const Eight& v) {  // -0.0 too
  return by_register([](const Doubles& d) { return reinterpret_cast<Flags>(d); }, v);
}

inline Eight zero_below(double limit, const Eight& v) {
  return by_register([limit](const Doubles& d) { return d < limit ? Doubles{} : d; }, v);
}

using Floats [[gnu::vector_size(kRegister / 2)]] = float;

// The words of sixteen doubles, `other` for those that no float32 equals, and whether all have one.
struct Narrowed {
  Sixteen words;
  bool exact;
};
inline Narrowed narrowed(const Eight& low, const Eight& high, std::uint32_t other) {
#ifdef TOM_AVX512
  const auto exact = [](const Eight& d, const __m256& f) -> unsigned {
    return _mm512_cmp_pd_mask(_mm512_cvtps_pd(f), d, _CMP_EQ_OQ);
  };
  const __m256 narrow_low = _mm512_cvtpd_ps(low), narrow_high = _mm512_cvtpd_ps(high);
  const unsigned bits = exact(low, narrow_low) | exact(high, narrow_high) << 8;
  const __m512 both = _mm512_insertf32x8(_mm512_castps256_ps512(narrow_low), narrow_high, 1);
  const __m512i words =
      _mm512_mask_mov_epi32(_mm512_set1_epi32(static_cast<int>(other)),
                            static_cast<__mmask16>(bits), _mm512_castps_si512(both));
  return {reinterpret_cast<Sixteen>(words), bits == 0xffff};
#else
  struct Half {
    HalfWords words;
    HalfFlags exact;
  };
  const auto of = [other](const Doubles& a, const Doubles& b) -> Half {
    const auto narrow_a = __builtin_convertvector(a, Floats);
    const auto narrow_b = __builtin_convertvector(b, Floats);
    const auto same_a =
        reinterpret_cast<HalfFlags>(__builtin_convertvector(narrow_a, Doubles) == a);
    const auto same_b =
        reinterpret_cast<HalfFlags>(__builtin_convertvector(narrow_b, Doubles) == b);
    const auto same = __builtin_shufflevector(same_a, same_b, 0, 2, 4, 6, 8, 10, 12, 14);
    const auto both = __builtin_shufflevector(narrow_a, narrow_b, 0, 1, 2, 3, 4, 5, 6, 7);
    return {same ? reinterpret_cast<HalfWords>(both) : other, same};
  };
  const Half of_low = of(low.low, low.high), of_high = of(high.low, high.high);
  return {{of_low.words, of_high.words}, all(SixteenFlags{of_low.exact, of_high.exact})};
#endif
}

#ifdef TOM_VECTOR_LOADS
// (GCC 12 turns a mask into flags and back where it is left to compare AVX-512's vectors.)
inline bool any_equal(const Sixteen& words, std::uint32_t other) {
#ifdef TOM_AVX512
  return _mm512_cmpeq_epi32_mask(reinterpret_cast<__m512i>(words),
                                 _mm512_set1_epi32(static_cast<int>(other))) != 0;
#else
  return any(by_register([other](const HalfWords& w) { return w == other; }, words));
#endif
}

// The first or last eight of sixteen words as numbers, those equal to `other` from elsewhere.
template <bool last>
inline Eight widened(const Sixteen& words, std::uint32_t other, const Eight& elsewhere) {
#ifdef TOM_AVX512
  const auto in_one = reinterpret_cast<__m512i>(words);
  const auto missing =
      _mm512_cmpeq_epi32_mask(in_one, _mm512_set1_epi32(static_cast<int>(other))) >> (last ? 8 : 0);
  const __m256 floats = _mm512_extractf32x8_ps(reinterpret_cast<__m512>(words), last ? 1 : 0);
  return _mm512_mask_mov_pd(_mm512_cvtps_pd(floats), static_cast<__mmask8>(missing), elsewhere);
#else
  using FourFlags [[gnu::vector_size(16)]] = std::int32_t;
  const auto numbers = [other](const auto& of_four, const Doubles& there) {
    const auto missing = __builtin_convertvector(FourFlags(of_four == other), Flags);
    return missing ? there : __builtin_convertvector(reinterpret_cast<Floats>(of_four), Doubles);
  };
  const HalfWords& half = last ? words.high : words.low;
  return {numbers(__builtin_shufflevector(half, half, 0, 1, 2, 3), elsewhere.low),
          numbers(__builtin_shufflevector(half, half, 4, 5, 6, 7), elsewhere.high)};
#endif
}
#endif

}  // namespace tom::replay
