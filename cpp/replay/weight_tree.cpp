#include "replay/weight_tree.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace tom::replay {
namespace {

constexpr std::size_t kFan = WeightTree::kFan;
constexpr std::size_t kLanes = 32;  // draws that walk down the tree together

std::size_t divide_up(std::size_t n) { return (n + kFan - 1) / kFan; }

std::vector<std::size_t> level_sizes(std::size_t capacity) {
  std::vector<std::size_t> sizes{divide_up(capacity)};
  while (sizes.back() > 1) sizes.push_back(divide_up(sizes.back()));
  return sizes;
}

std::size_t padded_sum(std::size_t capacity) {
  std::size_t sum = 0;
  for (const std::size_t size : level_sizes(capacity)) sum += divide_up(size) * kFan;
  return sum;
}

// In an order that the compiler can do with vectors. The first sum of +0.0 makes it never -0.0.
double block_sum(const double* w) {
  std::array<double, 8> s;
  for (std::size_t i = 0; i < 8; ++i) s[i] = w[i] + w[i + 8];
  for (std::size_t i = 0; i < 4; ++i) s[i] += s[i + 4];
  return ((s[0] + s[2]) + (s[1] + s[3])) + 0.0;
}

std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }

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

// The position among 16 increasing numbers, the first of them 0, of the last that is <= x.
std::size_t last_at_most(std::uint64_t* before, std::uint64_t x) {
  const auto at = [before](std::size_t i) {
    return AtomicRef<std::uint64_t>(before[i]).load(std::memory_order_relaxed);
  };
  std::size_t i = at(8) <= x ? 8 : 0;
  i += at(i + 4) <= x ? 4 : 0;
  i += at(i + 2) <= x ? 2 : 0;
  i += at(i + 1) <= x ? 1 : 0;
  return i;
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
  double* const totals = levels_[0].totals;
  const std::size_t full = weights.size() / kFan;
  std::uint64_t largest = 0;  // as bits: NaN and negative numbers are above every weight
  for (std::size_t block = 0; block < full; ++block) {
    const T* from = weights.data() + block * kFan;
    double* to = leaves_.data() + block * kFan;
    for (std::size_t i = 0; i < kFan; ++i) {
      const double w = static_cast<double>(from[i]) + 0.0;  // -0.0 becomes 0.0
      largest = std::max(largest, bits(w));
      to[i] = w;
    }
    totals[block] = block_sum(to);
  }
  for (std::size_t block = full; block < levels_[0].size; ++block) {
    double* to = leaves_.data() + block * kFan;
    for (std::size_t i = 0; i < kFan; ++i) {
      const std::size_t slot = block * kFan + i;
      to[i] = slot < weights.size() ? static_cast<double>(weights[slot]) + 0.0 : kUnset;
      if (slot < weights.size()) largest = std::max(largest, bits(to[i]));
    }
    totals[block] = block_sum(to);
  }
  if (largest > bits(kMaxWeight)) return false;
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    for (std::size_t node = 0; node < levels_[level + 1].size; ++node) {
      levels_[level + 1].totals[node] = sum_node(level, node);
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

void WeightTree::refresh_block(std::size_t block) {
  advance_stamp(levels_[0].stamps[block], [&] {
    std::array<double, kFan> w;
    for (std::size_t i = 0; i < kFan; ++i) {
      w[i] = leaf(block * kFan + i).load(std::memory_order_relaxed);
    }
    AtomicRef<double>(levels_[0].totals[block])
        .store(block_sum(w.data()), std::memory_order_relaxed);
  });
}

double WeightTree::sum_node(std::size_t level, std::size_t node) {
  double* const totals = levels_[level].totals + node * kFan;
  std::uint64_t* const before = levels_[level].before + node * kFan;
  double sum = 0.0;
  for (std::size_t i = 0; i < kFan; ++i) {
    AtomicRef<std::uint64_t>(before[i]).store(bits(sum), std::memory_order_relaxed);
    sum += AtomicRef<double>(totals[i]).load(std::memory_order_relaxed);
  }
  return sum;
}

void WeightTree::refresh_node(std::size_t level, std::size_t node) {
  const Level& above = levels_[level + 1];
  advance_stamp(above.stamps[node], [&] {
    AtomicRef<double>(above.totals[node]).store(sum_node(level, node), std::memory_order_relaxed);
  });
}

void WeightTree::refresh_range(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  std::size_t first = begin / kFan;
  std::size_t last = (end - 1) / kFan;
  for (std::size_t block = first; block <= last; ++block) refresh_block(block);
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    first /= kFan;
    last /= kFan;
    for (std::size_t node = first; node <= last; ++node) refresh_node(level, node);
  }
}

void WeightTree::update(std::span<const std::int64_t> slots, std::span<const double> weights) {
  std::vector<std::size_t> nodes(slots.size());  // before the first store: memory may run out
  for (std::size_t i = 0; i < slots.size(); ++i) {
    store(slots[i], weights[weights.size() == 1 ? 0 : i]);
    nodes[i] = static_cast<std::size_t>(slots[i]) / kFan;
  }
  drop_repeats(nodes);
  for (const std::size_t block : nodes) refresh_block(block);
  for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
    for (std::size_t& node : nodes) node /= kFan;
    drop_repeats(nodes);
    for (const std::size_t node : nodes) refresh_node(level, node);
  }
}

// A few dozen draws go down level by level together: their loads do not depend on each other, so
// the processor overlaps them, where a single draw would wait for memory at every level.
void WeightTree::find(std::span<const double> targets, std::int64_t* slots) const {
  std::array<std::size_t, kLanes> node;
  std::array<double, kLanes> rest;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      node[lane] = 0;
      rest[lane] = targets[begin + lane];
    }
    for (std::size_t level = levels_.size() - 1; level-- > 0;) {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        std::uint64_t* const before = levels_[level].before + node[lane] * kFan;
        const std::size_t child = last_at_most(before, bits(rest[lane]));
        rest[lane] -= std::bit_cast<double>(
            AtomicRef<std::uint64_t>(before[child]).load(std::memory_order_relaxed));
        node[lane] = std::min(node[lane] * kFan + child, levels_[level].size - 1);
      }
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      __builtin_prefetch(leaves_.data() + node[lane] * kFan);
      __builtin_prefetch(leaves_.data() + node[lane] * kFan + kFan / 2);
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double target = std::max(rest[lane], 0.0);
      double sum = 0.0;
      std::size_t passed = 0;
      for (std::size_t i = 0; i < kFan; ++i) {
        sum += leaf(node[lane] * kFan + i).load(std::memory_order_relaxed);
        passed += sum <= target ? 1 : 0;
      }
      const std::size_t slot = node[lane] * kFan + passed;
      slots[begin + lane] = passed < kFan ? static_cast<std::int64_t>(slot) : -1;
    }
  }
}

}  // namespace tom::replay
