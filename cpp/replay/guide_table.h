// A snapshot of the sums of a tree's lowest nodes from which many draws are made.
//
// It holds the running sums of the nodes, and for each of K equal parts of the total the node in
// which the part begins. A draw goes straight to the node of its part and steps on from there: each
// part is as likely as any other, so that on average less than one step of eight nodes is needed,
// however unequal the weights are. Making it costs about as much as a quarter of a draw per node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "replay/weight_tree.h"

namespace tom::replay {

class GuideTable {
 public:
  // Of targets below `total`, which is positive. The tree must outlive the table.
  GuideTable(const WeightTree& tree, double total);

  static bool pays_for(std::size_t draws, const WeightTree& tree) { return draws >= tree.nodes(); }

  // As WeightTree::find; a slot may differ from what that finds if the target lies within rounding
  // of the border between two nodes.
  void find(std::span<const double> targets, std::int64_t* slots) const;

 private:
  const WeightTree& tree_;
  std::vector<double> before_;  // of each node, then infinities up to a whole vector
  std::vector<std::uint32_t> first_;
  double parts_per_weight_;
};

}  // namespace tom::replay
