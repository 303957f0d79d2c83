// The weights of one generation and their sums, as a tree of nodes with 8 children.
//
//     leaves      w_0 ... w_15 | w_16 ... w_31 | ...                 one weight per slot (leaves.h)
//     level 0     totals: the sum of each block of 16 leaves
//                 before: within each node of 8 totals, the sum of those to the left
//     level 1     totals: the sum of each node of level 0, and so on
//     root        up to 16 totals, in two nodes; their sum is that of all weights
//
// A block, a node's totals and its sums before each are one cache line: a search reads one on every
// level, and an update reads and writes two.
//
// A sum is always computed afresh from its children, never by adding a difference. The tree is
// therefore a pure function of the leaves: no rounding error builds up, whatever the order of
// updates, and a saved and restored buffer draws the very same rows.
//
// Point updates (`store` and `refresh`) may run in any number of threads while others draw. Some
// neighbouring nodes of a level share a stamp. A thread that has stored children of some of them
// reads the stamp, sums those nodes, stores the sums, and then advances the stamp by
// compare-and-swap; if that fails, another thread has advanced it meanwhile, perhaps after summing
// older children, and it sums its nodes again. Why the sums of a node are right once all updates
// have returned: among the threads that summed it let Z be the last to advance the stamp. Each of
// the others advanced it earlier, after its last store to the node's children and to its sums, and
// so before Z last read the stamp, as nobody advanced it between that and Z's own advance; Z's read
// acquired all that. So Z summed the final children, and its own sums were the last to be stored.
// (Between a child's last sum and the parent the same argument applies again, as each thread
// refreshes the parent after the child.) A thread repeats its work only if another one has
// advanced: lock-free. An update of many slots takes these steps for all its nodes of a level side
// by side, so that the processor need not wait for one compare-and-swap before it loads for the
// next; for each node their order is the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "replay/leaves.h"
#include "replay/node.h"
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
  bool is_set(std::size_t slot) const { return slot < rebuilt_ || leaves_.is_set(slot); }
  double total() const { return relaxed(*root_.total); }

  // Writes to slots[i] the slot at position targets[i] of the cumulative weights, 0 <= target <
  // total(), or -1. By construction slot j is written only if w_j > 0, and it is the first such in
  // its block whose running sum exceeds what is left of the target. -1 means that rounding, or an
  // update in flight, left more than the block holds; draw again.
  void find(std::span<const double> targets, std::int64_t* slots) const;

  // The last steps of `find`: in the lowest nodes, of 128 leaves, from what is left of the targets.
  // It leaves the block of each in `nodes` and what is left there in `rests`.
  void find_in_nodes(std::span<std::size_t> nodes, double* rests, std::int64_t* slots) const;
  void prefetch_node(std::size_t node) const { prefetch_sums(levels_[0].nodes[node]); }
  std::size_t nodes() const { return sizes_[1]; }
  double node_total(std::size_t node) const {
    return relaxed(levels_[0].above[node / kFan].totals[node % kFan]);
  }

 private:
  template <class Prefetch>
  void descend(std::size_t level, std::span<std::size_t> nodes, double* rests,
               const Prefetch& prefetch) const;
  void sum_block(std::size_t block) {
    relaxed(levels_[0].nodes[block / kFan].totals[block % kFan], leaves_.sum(block));
  }
  void refresh_root();
  void prefetch_path(std::size_t block) const;

  AtomicRef<std::uint64_t> stamp(std::size_t level, std::size_t group) const {
    return AtomicRef<std::uint64_t>(stamps_of_[level][group]);
  }

  std::vector<std::size_t> sizes_;  // how many totals each level has, the last one being the root
  std::vector<Level> levels_;       // those below the root
  Root root_;
  Leaves leaves_;
  std::size_t rebuilt_ = 0;  // so many slots got a weight from `rebuild`
  ZeroedArray<Node> nodes_;  // of all levels; the totals beyond a level's end are zeros
  ZeroedArray<std::uint64_t> stamps_;
  std::vector<std::uint64_t*> stamps_of_;  // the first of each level, the last one being the root
};

}  // namespace tom::replay
