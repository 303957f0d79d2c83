// Sums over and searches in groups of 16 numbers: the inner loops of the weight tree.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "replay/atomic.h"

namespace tom::replay {

inline constexpr std::size_t kFan = 16;

// Numbers that the compiler keeps in whatever vector registers there are.
using Two [[gnu::vector_size(16)]] = double;
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

// The sum of 16 weights, in one fixed order: of vectors in a rewrite, of single loads in an update.
inline double block_sum(const Eight& low, const Eight& high) {
  const Eight s8 = low + high;
  const Four s4 =
      __builtin_shufflevector(s8, s8, 0, 1, 2, 3) + __builtin_shufflevector(s8, s8, 4, 5, 6, 7);
  const Two s2 = __builtin_shufflevector(s4, s4, 0, 1) + __builtin_shufflevector(s4, s4, 2, 3);
  return s2[0] + s2[1];
}
// (0.0 at the end, as the sum of a block of which no slot was ever set would be -0.0.)
inline double block_sum(double* w) {
  const auto s = [w](std::size_t i) { return relaxed(w[i]) + relaxed(w[i + 8]); };
  return (((s(0) + s(4)) + (s(2) + s(6))) + ((s(1) + s(5)) + (s(3) + s(7)))) + 0.0;
}

// Writes to before[i] the sum of the totals left of i, for 16 totals, and returns the sum of all.
// In fours, as one long chain of additions would take twice as long.
inline double node_sum(double* totals, std::uint64_t* before) {
  const auto write = [before](std::size_t i, double sum) {
    AtomicRef<std::uint64_t>(before[i]).store(bits(sum), std::memory_order_relaxed);
  };
  double sum = 0.0;
  for (std::size_t i = 0; i < kFan; i += 4) {
    const double one = relaxed(totals[i]);
    const double two = one + relaxed(totals[i + 1]);
    const double three = two + relaxed(totals[i + 2]);
    const double four = three + relaxed(totals[i + 3]);
    write(i, sum);
    write(i + 1, sum + one);
    write(i + 2, sum + two);
    write(i + 3, sum + three);
    sum += four;
  }
  return sum;
}

// Position of the last of 16 increasing numbers that is <= x, if the first is 0 <= x. It counts
// instead of branching, as the branches could not be predicted: first among every fourth, then in
// between.
inline std::size_t last_at_most(std::uint64_t* before, std::uint64_t x) {
  const auto passed = [&](std::size_t i) {
    return static_cast<std::size_t>(relaxed_bits(before[i]) <= x);
  };
  const std::size_t i = 4 * (passed(4) + passed(8) + passed(12));
  return i + passed(i + 1) + passed(i + 2) + passed(i + 3);
}

// The position i of the weight that covers `target`, w_0 + ... + w_{i-1} <= target < w_0 + ... +
// w_i, or 16 if there is none. First among the sums of four, then in the four. The weight at i is
// positive by construction: it is the difference between two sums of which one is <= `rest` and the
// other is not.
inline std::size_t covering(double* leaves, double target) {
  std::array<double, 4> quad;
  for (std::size_t q = 0; q < 4; ++q) {
    double* const w = leaves + 4 * q;
    quad[q] = (relaxed(w[0]) + relaxed(w[1])) + (relaxed(w[2]) + relaxed(w[3]));
  }
  const std::array<double, 4> before{0.0, quad[0], quad[0] + quad[1],
                                     (quad[0] + quad[1]) + quad[2]};
  const std::size_t q = static_cast<std::size_t>(before[1] <= target) +
                        static_cast<std::size_t>(before[2] <= target) +
                        static_cast<std::size_t>(before[3] <= target);
  const double rest = target - before[q];
  double sum = 0.0;
  std::size_t passed = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    sum += relaxed(leaves[4 * q + i]);
    passed += static_cast<std::size_t>(sum <= rest);
  }
  return passed < 4 ? 4 * q + passed : kFan;
}

}  // namespace tom::replay
