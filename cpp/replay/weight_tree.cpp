#include "replay/weight_tree.h"

#include <algorithm>
#include <array>

namespace tom::replay {
namespace {

constexpr std::size_t kLanes = 64;
constexpr std::size_t kAll = ~std::size_t{0};
constexpr std::size_t kStamped = kFan * kFan;  // neighbouring nodes that share a stamp

// How many blocks of leaves there are, nodes of blocks, nodes of nodes, ... and at last no more
// than the root holds.
std::vector<std::size_t> level_sizes(std::size_t capacity) {
  std::vector<std::size_t> sizes{divide_up(capacity, kBlock)};
  do {
    sizes.push_back(divide_up(sizes.back(), kFan));
  } while (sizes.back() > Root::kSize);
  return sizes;
}

// In groups of `size` totals on each level below the root.
std::size_t count_groups(const std::vector<std::size_t>& sizes, std::size_t size) {
  std::size_t count = 0;
  for (std::size_t level = 0; level + 1 < sizes.size(); ++level) {
    count += divide_up(sizes[level], size);
  }
  return count;
}

// See weight_tree.h: `compute` sums the children and stores what it finds.
bool try_advance(const AtomicRef<std::uint64_t>& stamp, std::uint64_t& seen) {
  return stamp.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire);
}
template <class Compute>
void advance(const AtomicRef<std::uint64_t>& stamp, const Compute& compute) {
  std::uint64_t seen = stamp.load(std::memory_order_acquire);
  do {
    compute();
  } while (!try_advance(stamp, seen));
}

// Finds the parents of the nodes that an update touches, without most of the repeats: a small table
// remembers the last number that fell on each of its entries. A number kept twice is summed twice.
class Ascent {
 public:
  Ascent() { recent_.fill(~std::size_t{0}); }

  // The numbers of `children` divided by `fan`. They may be the same list.
  template <std::size_t fan>
  void move_up(const std::vector<std::size_t>& children, std::vector<std::size_t>& parents) {
    parents.resize(children.size());
    const std::size_t of_level = ++level_ << 56;
    std::size_t kept = 0;
    for (const std::size_t child : children) {
      const std::size_t parent = child / fan;
      std::size_t& entry = recent_[parent % recent_.size()];
      const bool repeats = entry == (of_level | parent);
      entry = of_level | parent;
      parents[kept] = parent;  // without a branch, which could not be predicted
      kept += repeats ? 0 : 1;
    }
    parents.resize(kept);
  }

 private:
  std::array<std::size_t, 512> recent_;
  std::size_t level_ = 0;
};

}  // namespace

WeightTree::WeightTree(std::size_t capacity)
    : sizes_(level_sizes(capacity)),
      leaves_(capacity),
      nodes_(count_groups(sizes_, kFan) + 3),  // two for the root, one for the total
      stamps_(count_groups(sizes_, kFan * kStamped) + 1) {
  Node* nodes = nodes_.data();
  std::uint64_t* stamps = stamps_.data();
  for (std::size_t level = 0; level + 1 < sizes_.size(); ++level) {
    Node* const above = nodes + divide_up(sizes_[level], kFan);
    levels_.push_back({nodes, above});
    stamps_of_.push_back(stamps);
    stamps += divide_up(sizes_[level], kFan * kStamped);
    nodes = above;
  }
  root_ = {nodes, nodes[2].totals.data()};
  stamps_of_.push_back(stamps);
}

template <class T>
bool WeightTree::rebuild(std::span<const T> weights, std::size_t used) {
  if (!leaves_.assign(weights, used, levels_[0])) return false;
  rebuilt_ = weights.size();
  std::size_t nodes = divide_up(used, kBlock * kFan);
  for (std::size_t level = 1; level < levels_.size(); ++level) {
    nodes = divide_up(nodes, kFan);
    for (std::size_t node = 0; node < nodes; ++node) levels_[level].sum(node);
  }
  root_.sum();
  return true;
}

template bool WeightTree::rebuild(std::span<const float>, std::size_t);
template bool WeightTree::rebuild(std::span<const double>, std::size_t);

void WeightTree::refresh_root() {
  advance(stamp(levels_.size(), 0), [&] { root_.sum(); });
}

void WeightTree::refresh_range(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  const std::size_t first_block = begin / kBlock, last_block = (end - 1) / kBlock;
  std::size_t first = first_block / kFan, last = last_block / kFan;  // nodes of a level
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    for (std::size_t group = first / kStamped; group <= last / kStamped; ++group) {
      const std::size_t from = std::max(first, group * kStamped);
      const std::size_t to = std::min(last, group * kStamped + kStamped - 1);
      advance(stamp(level, group), [&] {
        if (level == 0) {
          const std::size_t until = std::min(last_block, to * kFan + kFan - 1);
          for (std::size_t block = std::max(first_block, from * kFan); block <= until; ++block) {
            sum_block(block);
          }
        }
        for (std::size_t node = from; node <= to; ++node) levels_[level].sum(node);
      });
    }
    first /= kFan;
    last /= kFan;
  }
  refresh_root();
}

// What an update of a large tree touches and may find far from the processor.
void WeightTree::prefetch_path(std::size_t block) const {
  leaves_.prefetch(block);
  prefetch(levels_[0].nodes[block / kFan]);
  prefetch(levels_[0].above[block / (kFan * kFan)]);
}

void WeightTree::update(std::span<const std::int64_t> slots, std::span<const double> weights) {
  if (slots.empty()) return;
  std::vector<std::size_t> blocks(slots.size());  // before the first store: memory may run out
  std::vector<std::size_t> nodes(slots.size());
  std::vector<std::size_t> parents(slots.size());
  std::vector<std::size_t> groups(slots.size());
  std::vector<std::uint64_t> seen(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    blocks[i] = static_cast<std::size_t>(slots[i]) / kBlock;
    prefetch_path(blocks[i]);
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    store(static_cast<std::size_t>(slots[i]), weights[weights.size() == 1 ? 0 : i]);
  }
  Ascent ascent;
  ascent.move_up<1>(blocks, blocks);
  ascent.move_up<kFan>(blocks, nodes);
  ascent.move_up<kFan>(nodes, parents);
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    // Those of one group, or all.
    const auto sum = [&](std::size_t group = kAll) {
      if (level == 0) {
        for (const std::size_t block : blocks) {
          if (group == kAll || block / (kFan * kStamped) == group) sum_block(block);
        }
      }
      for (const std::size_t node : nodes) {
        if (group == kAll || node / kStamped == group) levels_[level].sum(node);
      }
    };
    ascent.move_up<kStamped / kFan>(parents, groups);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      seen[i] = stamp(level, groups[i]).load(std::memory_order_acquire);
    }
    sum();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (try_advance(stamp(level, groups[i]), seen[i])) continue;
      advance(stamp(level, groups[i]), [&] { sum(groups[i]); });
    }
    nodes.swap(parents);
    parents.swap(groups);
  }
  refresh_root();
}

// A few dozen draws go down together, level by level: their loads do not depend on each other, and
// each asks for what it will read on the next level before anyone looks at it.
void WeightTree::find(std::span<const double> targets, std::int64_t* slots) const {
  std::array<std::size_t, kLanes> node;
  std::array<double, kLanes> rest;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    std::copy_n(targets.data() + begin, lanes, rest.begin());
    std::fill(rest.begin() + static_cast<std::ptrdiff_t>(lanes), rest.end(), 0.0);
    root_.search(rest.data(), node.data(), kLanes);
    for (std::size_t& n : node) n = std::min(n, sizes_.back() - 1);
    const std::span<std::size_t> nodes(node.data(), lanes);
    for (std::size_t level = levels_.size(); --level > 0;) {
      const Node* const below = levels_[level - 1].nodes;
      descend(level, nodes, rest.data(), [&](std::size_t n) { prefetch_sums(below[n]); });
    }
    find_in_nodes(nodes, rest.data(), slots + begin);
  }
}

void WeightTree::find_in_nodes(std::span<std::size_t> nodes, double* rests,
                               std::int64_t* slots) const {
  descend(0, nodes, rests, [&](std::size_t block) { leaves_.prefetch(block); });
  leaves_.find(nodes, rests, slots);
}

// From nodes of one level to the children that cover what is left of the targets.
template <class Prefetch>
inline void WeightTree::descend(std::size_t level, std::span<std::size_t> nodes, double* rests,
                                const Prefetch& prefetch) const {
  Node* const of_level = levels_[level].nodes;
  const std::size_t last = sizes_[level] - 1;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Node& node = of_level[nodes[i]];
    const std::size_t child = last_at_most(node, rests[i]);
    nodes[i] = std::min(nodes[i] * kFan + child, last);
    rests[i] -= relaxed(node.before[child]);
    prefetch(nodes[i]);
  }
}

}  // namespace tom::replay
