#include "replay/weight_tree.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace tom::replay {
namespace {

constexpr std::size_t kLanes = 32;

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

template <class T>
void load_eight(const T* from, Eight& w) {
  using Narrow [[gnu::vector_size(8 * sizeof(T))]] = T;
  Narrow narrow;
  std::memcpy(&narrow, from, sizeof narrow);
  w = __builtin_convertvector(narrow, Eight);
}

// See weight_tree.h: `compute` sums the children and stores what it finds.
template <class Compute>
void advance_stamp(std::uint64_t& word, const Compute& compute) {
  const AtomicRef<std::uint64_t> stamp(word);
  std::uint64_t seen = stamp.load(std::memory_order_acquire);
  do {
    compute();
  } while (!stamp.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire));
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

// Copies whole eights of blocks and sums them; the caller does the rest. Returns the number of
// blocks done: 0 if a weight may be bad or -0.0, for which the caller looks at each. A negative
// one shows in the sign bit of all words together, and NaN, infinity and too large a weight show in
// the sums.
template <class T>
std::size_t copy_and_sum(std::span<const T> weights, double* leaves, double* totals) {
  const std::size_t full = weights.size() / kFan / 8 * 8;
  EightWords signs = {};
  using Flags [[gnu::vector_size(64)]] = std::int64_t;  // what a comparison gives
  Flags in_range = ~Flags{};
  const auto copy = [&](std::size_t at) {
    Eight w;
    load_eight(weights.data() + at, w);
    std::memcpy(leaves + at, &w, sizeof w);
    EightWords words;
    std::memcpy(&words, &w, sizeof w);
    signs |= words;
    return w;
  };
  for (std::size_t block = 0; block < full; block += 8) {
    std::array<Eight, 8> halves;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::size_t at = (block + i) * kFan;
      halves[i] = copy(at);
      halves[i] += copy(at + 8);
    }
    const Eight sums = block_sums(halves);
    in_range &= sums <= WeightTree::kMaxWeight;
    std::memcpy(totals + block, &sums, sizeof sums);
  }
  bool good = true;
  for (std::size_t i = 0; i < 8; ++i) good = good && signs[i] >> 63 == 0 && in_range[i] != 0;
  return good ? full : 0;
}

}  // namespace

WeightTree::WeightTree(std::size_t capacity)
    : leaves_(divide_up(capacity) * kFan),
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
bool WeightTree::rebuild(std::span<const T> weights) {
  double* const leaves = leaves_.data();
  double* const totals = levels_[0].totals;
  bool good = true;
  const std::size_t done = copy_and_sum(weights, leaves, totals);
  for (std::size_t block = done; block < levels_[0].size; ++block) {
    for (std::size_t slot = block * kFan; slot < (block + 1) * kFan; ++slot) {
      const bool covered = slot < weights.size();
      leaves[slot] = covered ? static_cast<double>(weights[slot]) + 0.0 : kUnset;
      good = good && (!covered || is_weight(leaves[slot]));
    }
    totals[block] = block_sum(leaves + block * kFan);
  }
  if (!good) return false;
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    const Level& below = levels_[level];
    for (std::size_t node = 0; node < levels_[level + 1].size; ++node) {
      levels_[level + 1].totals[node] =
          node_sum_alone(below.totals + node * kFan, below.before + node * kFan);
    }
  }
  return true;
}

template bool WeightTree::rebuild(std::span<const float>);
template bool WeightTree::rebuild(std::span<const double>);

void WeightTree::store_if_unset(std::size_t slot, double weight) {
  AtomicRef<double> leaf = this->leaf(slot);
  double unset = kUnset;  // compare-and-swap compares bits, which tell -0.0 from 0.0
  leaf.compare_exchange_strong(unset, weight + 0.0, std::memory_order_relaxed);
}

bool WeightTree::is_set(std::size_t slot) const {
  return bits(leaf(slot).load(std::memory_order_relaxed)) != bits(kUnset);
}

double WeightTree::sum_node(std::size_t level, std::size_t node) {
  return node_sum(levels_[level].totals + node * kFan, levels_[level].before + node * kFan);
}

void WeightTree::refresh_blocks(std::size_t first, std::size_t last) {
  const std::size_t node = first / kFan;
  const Level& above = levels_[1];
  advance_stamp(above.stamps[node], [&] {
    for (std::size_t block = first; block <= last; ++block) {
      relaxed(levels_[0].totals[block], block_sum(leaves_.data() + block * kFan));
    }
    relaxed(above.totals[node], sum_node(0, node));
  });
}

void WeightTree::refresh_node(std::size_t level, std::size_t node) {
  const Level& above = levels_[level + 1];
  advance_stamp(above.stamps[node], [&] { relaxed(above.totals[node], sum_node(level, node)); });
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
  std::vector<std::size_t> nodes(slots.size());  // before the first store: memory may run out
  for (std::size_t i = 0; i < slots.size(); ++i) {
    nodes[i] = static_cast<std::size_t>(slots[i]) / kFan;
    // The compare-and-swaps below keep the processor from loading ahead, so it is asked to here.
    prefetch_group(leaves_.data(), nodes[i]);
    prefetch_group(levels_[0].totals, nodes[i] / kFan);
    prefetch_group(levels_[0].before, nodes[i] / kFan);
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    store(slots[i], weights[weights.size() == 1 ? 0 : i]);
  }
  drop_repeats(nodes);
  for (const std::size_t block : nodes) refresh_blocks(block, block);
  for (std::size_t& node : nodes) node /= kFan;
  for (std::size_t level = 1; level + 1 < levels_.size(); ++level) {
    for (std::size_t& node : nodes) node /= kFan;
    drop_repeats(nodes);
    for (const std::size_t node : nodes) refresh_node(level, node);
  }
}

// A few dozen draws go down together, level by level: their loads do not depend on each other, and
// what the next level needs is asked for before anyone looks at it.
void WeightTree::find(std::span<const double> targets, std::int64_t* slots) const {
  std::array<std::size_t, kLanes> node;
  std::array<double, kLanes> rest;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    std::copy_n(targets.data() + begin, lanes, rest.begin());
    std::fill_n(node.begin(), lanes, 0);
    for (std::size_t level = levels_.size() - 1; level-- > 0;) {
      descend(level, lanes, node.data(), rest.data());
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      slots[begin + lane] = find_in_block(node[lane], std::max(rest[lane], 0.0));
    }
  }
}

// From nodes of one level to their children that cover what is left of the targets.
void WeightTree::descend(std::size_t level, std::size_t lanes, std::size_t* node,
                         double* rest) const {
  std::uint64_t* const all = levels_[level].before;
  const std::size_t last = levels_[level].size - 1;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    std::uint64_t* const before = all + node[lane] * kFan;
    const std::size_t child = last_at_most(before, bits(rest[lane]));
    rest[lane] -= std::bit_cast<double>(relaxed_bits(before[child]));
    node[lane] = std::min(node[lane] * kFan + child, last);
    if (level == 0) {
      prefetch_block(node[lane]);
    } else {
      prefetch_group(levels_[level - 1].before, node[lane]);
    }
  }
}

}  // namespace tom::replay
