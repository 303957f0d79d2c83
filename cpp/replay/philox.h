// Philox2x64-10, a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). Its output is a pure function of (key, counter), so a
// draw depends on its own number alone and not on the thread that makes it.
#pragma once

#include <array>
#include <cstdint>

namespace tom::replay {

__extension__ using Uint128 = unsigned __int128;

inline std::array<std::uint64_t, 2> philox2x64(std::uint64_t key, std::uint64_t counter0,
                                               std::uint64_t counter1) {
  constexpr std::uint64_t kMultiplier = 0xD2B74407B1CE6E93;
  constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15;
  for (int round = 0; round < 10; ++round) {
    const Uint128 product = Uint128{kMultiplier} * counter0;
    counter0 = static_cast<std::uint64_t>(product >> 64) ^ key ^ counter1;
    counter1 = static_cast<std::uint64_t>(product);
    key += kWeyl;
  }
  return {counter0, counter1};
}

// The random words of one call of `draw`: draw i of attempt a reads half i % 2 of the block
// with counter (a 2^48 + i / 2, call). A second attempt is needed in the rare cases that
// WeightTree::find explains.
class DrawStream {
 public:
  DrawStream(std::uint64_t seed, std::uint64_t call) : seed_(seed), call_(call) {}

  // 64 random bits for each of the draws first, first + 1, ..., first + n - 1.
  void fill(std::uint64_t first, std::uint64_t n, std::uint64_t* words) const {
    for (std::uint64_t i = 0; i < n;) {
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

// [0, 1) in steps of 2^-53.
inline double unit_interval(std::uint64_t word) {
  return static_cast<double>(word >> 11) * 0x1p-53;
}

}  // namespace tom::replay
