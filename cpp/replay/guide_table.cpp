#include "replay/guide_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace tom::replay {
namespace {

constexpr std::size_t kLanes = 128;  // draws whose loads overlap
constexpr std::size_t kStep = 8;     // nodes looked at together

// How many of the eight running sums are at most the target.
std::size_t count_at_most(const double* before, double target) {
  return static_cast<std::size_t>(std::popcount(bits_at_most(load_vector<Eight>(before), target)));
}

}  // namespace

GuideTable::GuideTable(const WeightTree& tree, double total)
    : tree_(tree), before_(tree.nodes() + kStep), first_(std::bit_ceil(tree.nodes()) + 1) {
  const std::size_t parts = first_.size() - 1, nodes = tree.nodes();
  // (Finite however small the total is, so that a target's part is a number.)
  parts_per_weight_ =
      std::min(static_cast<double>(parts) / total, std::numeric_limits<double>::max());
  double sum = 0.0;
  std::size_t part = 0;
  for (std::size_t node = 0; node < nodes; ++node) {
    before_[node] = sum;
    sum += tree.node_total(node);
    // The parts that begin in this node: those that a target at its end does not reach.
    const double reached = sum * parts_per_weight_;
    for (; part < parts && static_cast<double>(part) < reached; ++part) {
      first_[part] = static_cast<std::uint32_t>(node);
    }
  }
  std::fill(first_.begin() + static_cast<std::ptrdiff_t>(part), first_.end(),
            static_cast<std::uint32_t>(nodes - 1));
  std::fill(before_.end() - kStep, before_.end(), std::numeric_limits<double>::infinity());
}

void GuideTable::find(std::span<const double> targets, std::int64_t* slots) const {
  const std::size_t parts = first_.size() - 1;
  std::array<std::size_t, kLanes> node;
  std::array<double, kLanes> rest;
  for (std::size_t begin = 0; begin < targets.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, targets.size() - begin);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double target = targets[begin + lane];
      const auto part =
          static_cast<std::size_t>(static_cast<std::int64_t>(target * parts_per_weight_));
      std::size_t at = first_[std::min(part, parts)];
      std::size_t passed = kStep;
      while (passed == kStep) {
        passed = count_at_most(before_.data() + at + 1, target);
        at += passed;
      }
      tree_.prefetch_node(at);
      node[lane] = at;
      // (Below 0 if rounding put the target into the part after its own.)
      rest[lane] = std::max(target - before_[at], 0.0);
    }
    tree_.find_in_nodes(std::span(node.data(), lanes), rest.data(), slots + begin);
  }
}

}  // namespace tom::replay
