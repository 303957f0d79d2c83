#include "replay/weight_tree.h"

#include <algorithm>
#include <array>
#include <bit>

namespace tom::replay {
namespace {

constexpr std::size_t kLanes = 64;
constexpr std::size_t kNear = 512;  // numbers on a level that stays in the nearest cache

std::size_t divide_up(std::size_t n) { return (n + kFan - 1) / kFan; }

// Blocks of leaves, nodes of blocks, nodes of nodes, ... and at last one.
std::vector<std::size_t> level_sizes(std::size_t capacity) {
  std::vector<std::size_t> sizes{divide_up(capacity)};
  do {
    sizes.push_back(divide_up(sizes.back()));
  } while (sizes.back() > 1);
  return sizes;
}

std::size_t padded_sum(std::size_t capacity) {
  std::size_t sum = 0;
  for (const std::size_t size : level_sizes(capacity)) sum += divide_up(size) * kFan;
  return sum;
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

// Keeps one of each run of equal numbers, and most of those that come again later: a small table
// remembers the last number that fell on each of its entries. A number kept twice costs a second
// refresh.
void drop_repeats(std::vector<std::size_t>& numbers) {
  std::array<std::size_t, 512> recent;
  recent.fill(~std::size_t{0});
  std::size_t kept = 0;
  for (const std::size_t number : numbers) {
    std::size_t& entry = recent[number % recent.size()];
    if (entry == number) continue;
    entry = number;
    numbers[kept++] = number;
  }
  numbers.resize(kept);
}

}  // namespace

WeightTree::WeightTree(std::size_t capacity)
    : leaves_(capacity),
      totals_(padded_sum(capacity)),
      before_(padded_sum(capacity)),
      stamps_(padded_sum(capacity)) {
  std::size_t at = 0;
  for (const std::size_t size : level_sizes(capacity)) {
    levels_.push_back({totals_.data() + at, before_.data() + at, stamps_.data() + at, size});
    at += divide_up(size) * kFan;
  }
}

template <class T>
bool WeightTree::rebuild(std::span<const T> weights, std::size_t used) {
  if (!leaves_.assign(weights, used, levels_[0].totals)) return false;
  std::size_t nodes = divide_up(used);
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    nodes = divide_up(nodes);
    for (std::size_t node = 0; node < nodes; ++node) sum_node(level, node);
  }
  return true;
}

template bool WeightTree::rebuild(std::span<const float>, std::size_t);
template bool WeightTree::rebuild(std::span<const double>, std::size_t);

void WeightTree::sum_node(std::size_t level, std::size_t node) {
  const Level& children = levels_[level];
  relaxed(levels_[level + 1].totals[node],
          replay::sum_node(children.totals + node * kFan, children.before + node * kFan));
}

void WeightTree::refresh_blocks(std::size_t first, std::size_t last) {
  const std::size_t node = first / kFan;
  advance(stamp(0, node), [&] {
    for (std::size_t block = first; block <= last; ++block) sum_block(block);
    sum_node(0, node);
  });
}

void WeightTree::refresh_node(std::size_t level, std::size_t node) {
  advance(stamp(level, node), [&] { sum_node(level, node); });
}

void WeightTree::refresh_range(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  std::size_t first = begin / kFan;
  std::size_t last = (end - 1) / kFan;
  for (std::size_t block = first; block <= last; block = (block / kFan + 1) * kFan) {
    refresh_blocks(block, std::min(last, block / kFan * kFan + kFan - 1));
  }
  for (std::size_t level = 1; level + 1 < levels_.size(); ++level) {
    first /= kFan;
    last /= kFan;
    for (std::size_t node = first / kFan; node <= last / kFan; ++node) refresh_node(level, node);
  }
}

void WeightTree::update(std::span<const std::int64_t> slots, std::span<const double> weights) {
  std::vector<std::size_t> blocks(slots.size());  // before the first store: memory may run out
  std::vector<std::size_t> nodes(slots.size());
  std::vector<std::uint64_t> seen(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    blocks[i] = static_cast<std::size_t>(slots[i]) / kFan;
    leaves_.prefetch(blocks[i]);
    prefetch_group(levels_[0].totals, blocks[i] / kFan);
    prefetch_group(levels_[0].before, blocks[i] / kFan);
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    store(static_cast<std::size_t>(slots[i]), weights[weights.size() == 1 ? 0 : i]);
  }
  drop_repeats(blocks);
  std::copy(blocks.begin(), blocks.end(), nodes.begin());
  nodes.resize(blocks.size());
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    for (std::size_t& node : nodes) node /= kFan;
    drop_repeats(nodes);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      seen[i] = stamp(level, nodes[i]).load(std::memory_order_acquire);
    }
    if (level == 0) {
      for (const std::size_t block : blocks) sum_block(block);
    }
    for (const std::size_t node : nodes) sum_node(level, node);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const std::size_t node = nodes[i];
      if (try_advance(stamp(level, node), seen[i])) continue;
      if (level == 0) {
        refresh_blocks(node * kFan, std::min(node * kFan + kFan, levels_[0].size) - 1);
      } else {
        refresh_node(level, node);
      }
    }
  }
}

// A few dozen draws go down together: their loads do not depend on each other. They take the small
// levels at once; of each large one they ask for their nodes before anyone looks at them.
void WeightTree::find(std::span<const double> targets, std::int64_t* slots) const {
  std::array<std::size_t, kLanes> node;
  std::array<double, kLanes> rest;
  const std::size_t top = levels_.size() - 2;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    std::copy_n(targets.data() + begin, lanes, rest.begin());
    std::fill(rest.begin() + static_cast<std::ptrdiff_t>(lanes), rest.end(), 0.0);
    search_node(levels_[top].before, rest.data(), node.data(), kLanes);
    for (std::size_t& n : node) n = std::min(n, levels_[top].size - 1);
    std::size_t level = top;
    do {
      const std::size_t above = level;
      while (level > 0 && levels_[level - 1].size <= kNear) --level;
      if (level == above && level > 0) --level;
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        Position at{node[lane], rest[lane]};
        for (std::size_t l = above; l-- > level;) at = descend(l, at);
        node[lane] = at.node;
        rest[lane] = at.rest;
        if (level > 0) {
          prefetch_group(levels_[level - 1].before, at.node);
        } else {
          prefetch_block(at.node);
        }
      }
    } while (level > 0);
    leaves_.find(std::span(node.data(), lanes), rest.data(), slots + begin);
  }
}

// From a node of one level to the child that covers what is left of the target.
inline WeightTree::Position WeightTree::descend(std::size_t level, const Position& at) const {
  const Level& l = levels_[level];
  std::uint64_t* const before = l.before + at.node * kFan;
  const std::size_t child = last_at_most(before, bits(at.rest));
  return {std::min(at.node * kFan + child, l.size - 1),
          at.rest - std::bit_cast<double>(relaxed_bits(before[child]))};
}

}  // namespace tom::replay
