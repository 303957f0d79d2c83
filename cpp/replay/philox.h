// Philox2x64-10, a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). Its output is a pure function of (key, counter), so a
// draw depends on its own number alone and not on the thread that makes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "replay/vectors.h"

namespace tom::replay {

__extension__ using Uint128 = unsigned __int128;

inline constexpr std::uint64_t kPhiloxMultiplier = 0xD2B74407B1CE6E93;
inline constexpr std::uint64_t kPhiloxWeyl = 0x9E3779B97F4A7C15;

inline std::array<std::uint64_t, 2> philox2x64(std::uint64_t key, std::uint64_t counter0,
                                               std::uint64_t counter1) {
  for (int round = 0; round < 10; ++round) {
    const Uint128 product = Uint128{kPhiloxMultiplier} * counter0;
    counter0 = static_cast<std::uint64_t>(product >> 64) ^ key ^ counter1;
    counter1 = static_cast<std::uint64_t>(product);
    key += kPhiloxWeyl;
  }
  return {counter0, counter1};
}

#ifdef TOM_AVX512
inline constexpr std::size_t kPhiloxTogether = 32;

// The blocks of 32 successive counters, one after the other, in four vectors whose multiplications
// overlap. The high words of the products are made from those of 32-bit halves.
inline void philox2x64_together(std::uint64_t key, std::uint64_t counter0, std::uint64_t counter1,
                                std::uint64_t* words) {
  const auto low_product = [](const EightWords& a, const EightWords& b) {  // of the low halves
    return reinterpret_cast<EightWords>(
        _mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
  };
  const EightWords low = EightWords{} + (kPhiloxMultiplier & 0xffffffff);
  const EightWords high = EightWords{} + (kPhiloxMultiplier >> 32);
  std::array<EightWords, kPhiloxTogether / 8> first, second;
  for (std::size_t i = 0; i < first.size(); ++i) {
    first[i] = counter0 + 8 * i + EightWords{0, 1, 2, 3, 4, 5, 6, 7};
    second[i] = EightWords{} + counter1;
  }
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 4
    for (std::size_t i = 0; i < first.size(); ++i) {
      const EightWords upper = first[i] >> 32;
      const EightWords middle = low_product(high, first[i]) + (low_product(low, first[i]) >> 32);
      const EightWords carry = low_product(low, upper) + (middle & 0xffffffff);
      const EightWords product = low_product(high, upper) + (middle >> 32) + (carry >> 32);
      const EightWords next = product ^ key ^ second[i];
      second[i] = first[i] * kPhiloxMultiplier;
      first[i] = next;
    }
    key += kPhiloxWeyl;
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    const EightWords begin = __builtin_shufflevector(first[i], second[i], 0, 8, 1, 9, 2, 10, 3, 11);
    const EightWords end = __builtin_shufflevector(first[i], second[i], 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(words + 16 * i, &begin, sizeof begin);
    std::memcpy(words + 16 * i + 8, &end, sizeof end);
  }
}
#endif

// The random words of one call of `draw`: draw i of attempt a reads half i % 2 of the block
// with counter (a 2^48 + i / 2, call). A second attempt is needed in the rare cases that
// WeightTree::find explains.
class DrawStream {
 public:
  DrawStream(std::uint64_t seed, std::uint64_t call) : seed_(seed), call_(call) {}

  // 64 random bits for each of the draws first, first + 1, ..., first + n - 1.
  void fill(std::uint64_t first, std::uint64_t n, std::uint64_t* words) const {
    std::uint64_t i = 0;
#ifdef TOM_AVX512
    if (first % 2 == 0) {
      for (; i + 2 * kPhiloxTogether <= n; i += 2 * kPhiloxTogether) {
        philox2x64_together(seed_, (first + i) / 2, call_, words + i);
      }
    }
#endif
    while (i < n) {
      const auto block = philox2x64(seed_, (first + i) / 2, call_);
      if ((first + i) % 2 == 0) words[i++] = block[0];
      if (i < n) words[i++] = block[1];
    }
  }

  std::uint64_t retry(std::uint64_t draw, std::uint64_t attempt) const {
    return philox2x64(seed_, (attempt << 48) + draw / 2, call_)[draw % 2];
  }

 private:
  std::uint64_t seed_;
  std::uint64_t call_;
};

// [0, 1) in steps of 2^-53. (Only AVX-512 converts unsigned words in one step.)
inline double unit_interval(std::uint64_t word) {
  return static_cast<double>(static_cast<std::int64_t>(word >> 11)) * 0x1p-53;
}

}  // namespace tom::replay
