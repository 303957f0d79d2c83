// The weights themselves, four bytes each where a float32 holds them exactly.
//
// Weights mostly come as float32. Kept as such they are half the memory to rewrite and one cache
// line per block to search; sums are made in float64 all the same. A weight that no normal float32
// equals lies in a second array, of doubles, and its leaf says so (kWide). That array is only
// touched, and so only takes memory, where there are such weights.
//
// A weight below the smallest normal double is stored as 0. A thread that flushes such numbers
// would read it as 0 in any case, and for a sum of many it would look for their rows for ever.
//
// A leaf of all zero bits has weight 0. It may never have been stored, as fresh memory is zeros, or
// come from a full rewrite; one of weight 0 that was stored by itself is -0.0. So whoever knows how
// many slots the last full rewrite covered can tell which of the others are set.
//
// Under concurrent point writes every load returns a weight that was stored whole. A wide weight is
// stored before its kWide, with release order; who loads kWide with acquire order finds that weight
// or one that is being stored at this moment. So it does not matter in which order several writers
// of one slot store their two words: when all have returned, the leaf is a float32 that one of them
// stored last, or kWide and the wide weight the one stored last. `store_if_unset` never replaces a
// wide weight either, as that of an unset leaf is 0.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "replay/node.h"
#include "replay/zeroed_array.h"

namespace tom::replay {

class Leaves {
 public:
  // Sums of up to 10^18 such weights are finite.
  static constexpr double kMaxWeight = 1e290;
  static constexpr double kMinWeight = std::numeric_limits<double>::min();  // of those above 0

  static bool is_weight(double w) { return w >= 0.0 && w <= kMaxWeight; }

  explicit Leaves(std::size_t capacity);

  double load(std::size_t slot) const {
    const std::uint32_t word = leaf(slot).load(std::memory_order_acquire);
    return word == kWide ? relaxed(wide_[slot]) : static_cast<double>(std::bit_cast<float>(word));
  }
  // Of a slot that `assign` has not given a weight.
  bool is_set(std::size_t slot) const { return leaf(slot).load(std::memory_order_relaxed) != 0; }

  void store(std::size_t slot, double weight);
  void store_if_unset(std::size_t slot, double weight);  // likewise

  // Stores `weights` in the first slots, unsets the others below `used`, and gives the nodes that
  // begin below `used` the sums of their blocks. Returns false, having stored some, if a weight is
  // not `is_weight`. Not while another thread can see the leaves.
  template <class T>
  bool assign(std::span<const T> weights, std::size_t used, const Level& sums);

  // A block is 16 neighbouring leaves.
  double sum(std::size_t block) const;

  // Writes to slots[i] the first slot of blocks[i] with a positive weight whose running sum exceeds
  // targets[i], or 0 if that is less; -1 if there is none.
  void find(std::span<const std::size_t> blocks, const double* targets, std::int64_t* slots) const;

  void prefetch(std::size_t block) const { __builtin_prefetch(leaves_.data() + block * kBlock); }

 private:
  static constexpr std::uint32_t kZero = 0x80000000;  // -0.0
  static constexpr std::uint32_t kWide = 0x7fc00000;  // a NaN, which no weight is

  AtomicRef<std::uint32_t> leaf(std::size_t slot) const {
    return AtomicRef<std::uint32_t>(leaves_[slot]);
  }
  static std::uint32_t word_for(double weight);
  std::size_t assign_whole_nodes(std::span<const float> weights, const Level& sums);
  std::size_t assign_whole_nodes(std::span<const double> weights, const Level& sums);
  // Weights w_0, w_2, ... and w_1, w_3, ..., all multiplied by a power of two; that and its
  // inverse; and a positive number that no positive weight is below.
  struct Block {
    Eight even, odd;
    double scale, inverse, least;
  };
  Block load_block(std::size_t block) const;
  std::int64_t find_in_block(std::size_t block, double target) const;

  ZeroedArray<std::uint32_t> leaves_;
  ZeroedArray<double> wide_;
};

}  // namespace tom::replay
