// The weights of one generation and their sums, as a tree of nodes with 16 children.
//
//     leaves      w_0 ... w_15 | w_16 ... w_31 | ...                 one weight per slot (leaves.h)
//     level 0     totals: the sum of each block of 16 leaves
//                 before: within each node of 16 totals, the sum of those to the left
//     level 1     totals: the sum of each node of level 0, and so on
//     last level  a single total: the sum of all weights
//
// A sum is always computed afresh from its 16 children, never by adding a difference. The tree
// is therefore a pure function of the leaves: no rounding error builds up, whatever the order of
// updates, and a saved and restored buffer draws the very same rows.
//
// Point updates (`store` and `refresh`) may run in any number of threads while others draw. Each
// node has a stamp. `refresh` reads the stamp, sums the children, stores the sums, and then
// advances the stamp by compare-and-swap; if that fails, another thread has refreshed the node
// meanwhile, perhaps from older children, and it sums again. Why the sums are right once all
// updates have returned: let Z be the last thread to advance a node's stamp. Every other thread
// advanced it earlier, after its last store to the node's children and to its sums; Z's read of the
// stamp acquired all that. So Z summed the final children, and its own sums were the last to be
// stored. (Between a child's last sum and the parent the same argument applies again, as each
// thread refreshes the parent after the child.) A thread repeats its work only if another one has
// advanced: lock-free. An update of many slots takes these steps for all its nodes of a level side
// by side, so that the processor need not wait for one compare-and-swap before it loads for the
// next; for each node their order is the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "replay/leaves.h"
#include "replay/sums.h"
#include "replay/zeroed_array.h"

namespace tom::replay {

class WeightTree {
 public:
  explicit WeightTree(std::size_t capacity);

  // Gives the first slots these weights, unsets those beyond, and rebuilds all sums. No slot from
  // `used` on may ever have been stored: they are left alone, so that the work grows with the rows
  // and not with the capacity. Returns false, with the tree in an unspecified state, if a weight is
  // not `Leaves::is_weight`. Not for a tree others can see.
  template <class T>
  bool rebuild(std::span<const T> weights, std::size_t used);

  // Point updates: `store` the leaves, then `refresh` the sums above them.
  void store(std::size_t slot, double weight) { leaves_.store(slot, weight); }
  void store_if_unset(std::size_t slot, double weight) { leaves_.store_if_unset(slot, weight); }
  void refresh_range(std::size_t begin, std::size_t end);

  // Both at once: weights[i], or weights[0] if there is one, in slots[i].
  void update(std::span<const std::int64_t> slots, std::span<const double> weights);

  double weight(std::size_t slot) const { return leaves_.load(slot); }
  bool is_set(std::size_t slot) const { return leaves_.is_set(slot); }
  double total() const {
    return AtomicRef<double>(levels_.back().totals[0]).load(std::memory_order_relaxed);
  }

  // Writes to slots[i] the slot at position targets[i] of the cumulative weights, 0 <= target <
  // total(), or -1. By construction slot j is written only if w_j > 0, and it is the first such in
  // its block whose running sum exceeds what is left of the target. -1 means that rounding, or an
  // update in flight, left more than the block holds; draw again.
  void find(std::span<const double> targets, std::int64_t* slots) const;

  // The last step of `find`: within blocks, from what is left of the targets.
  void find_in_blocks(std::span<const std::size_t> blocks, const double* rests,
                      std::int64_t* slots) const {
    leaves_.find(blocks, rests, slots);
  }
  void prefetch_block(std::size_t block) const { leaves_.prefetch(block); }
  std::size_t blocks() const { return levels_[0].size; }
  double block_total(std::size_t block) const { return relaxed(levels_[0].totals[block]); }

 private:
  struct Level {
    double* totals;
    std::uint64_t* before;  // bits of doubles >= 0, which order as the doubles do
    std::uint64_t* stamps;  // of the block or node that each total sums
    std::size_t size;       // number of totals; the arrays are zeros from there to a multiple of 16
  };

  struct Position {
    std::size_t node;
    double rest;  // of the target, from the node's left end on
  };
  Position descend(std::size_t level, const Position& at) const;
  void sum_block(std::size_t block) { relaxed(levels_[0].totals[block], leaves_.sum(block)); }
  void sum_node(std::size_t level, std::size_t node);
  AtomicRef<std::uint64_t> stamp(std::size_t level, std::size_t node) const {
    return AtomicRef<std::uint64_t>(levels_[level + 1].stamps[node]);
  }
  void refresh_blocks(std::size_t first, std::size_t last);  // of one node
  void refresh_node(std::size_t level, std::size_t node);

  std::vector<Level> levels_;  // the last one is a single total, that of all weights
  Leaves leaves_;
  ZeroedArray<double> totals_;
  ZeroedArray<std::uint64_t> before_;
  ZeroedArray<std::uint64_t> stamps_;
};

}  // namespace tom::replay
