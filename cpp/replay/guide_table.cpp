#include "replay/guide_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace tom::replay {
namespace {

constexpr std::size_t kLanes = 32;  // draws whose loads overlap
constexpr std::size_t kStep = 8;    // blocks looked at together

// How many of the eight running sums are at most the target.
std::size_t count_at_most(const double* before, double target) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < kStep; ++i) count += static_cast<std::size_t>(before[i] <= target);
  return count;
}

}  // namespace

GuideTable::GuideTable(const WeightTree& tree, double total)
    : tree_(tree), before_(tree.blocks() + kStep), first_(std::bit_ceil(tree.blocks()) + 1) {
  const std::size_t parts = first_.size() - 1, blocks = tree.blocks();
  parts_per_weight_ = static_cast<double>(parts) / total;
  double sum = 0.0;
  std::size_t part = 0;
  for (std::size_t block = 0; block < blocks; ++block) {
    before_[block] = sum;
    sum += tree.block_total(block);
    // The parts that begin in this block: those that a target at its end does not reach.
    const double reached = sum * parts_per_weight_;
    for (; part < parts && static_cast<double>(part) < reached; ++part) {
      first_[part] = static_cast<std::uint32_t>(block);
    }
  }
  std::fill(first_.begin() + static_cast<std::ptrdiff_t>(part), first_.end(),
            static_cast<std::uint32_t>(blocks - 1));
  std::fill(before_.end() - kStep, before_.end(), std::numeric_limits<double>::infinity());
}

void GuideTable::find(std::span<const double> targets, std::int64_t* slots) const {
  const std::size_t parts = first_.size() - 1;
  std::array<std::size_t, kLanes> block;
  std::array<double, kLanes> rest;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double part = targets[begin + lane] * parts_per_weight_;
      block[lane] = first_[std::min(static_cast<std::size_t>(part), parts)];
      __builtin_prefetch(before_.data() + block[lane] + 1);
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      std::size_t passed = kStep;
      while (passed == kStep) {
        passed = count_at_most(before_.data() + block[lane] + 1, targets[begin + lane]);
        block[lane] += passed;
      }
      tree_.prefetch_block(block[lane]);
      // (Below 0 if rounding put the target into the part after its own.)
      rest[lane] = targets[begin + lane] - before_[block[lane]];
    }
    tree_.find_in_blocks(std::span(block.data(), lanes), rest.data(), slots + begin);
  }
}

}  // namespace tom::replay
