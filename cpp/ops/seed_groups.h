#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

#include <vector>

namespace tom {

/// One of an operator's networks: its vectors for all seeds, and what lies in them for each seed.
struct StackedState {
  /// [flat, gradient, exp_avg, exp_avg_sq, step], or one vector alone for a target.
  std::vector<at::Tensor> tensors;
  /// The vectors hold [S, n] for each n of these, one behind the other.
  std::vector<int64_t> segments;

  /// How many numbers each of the vectors holds.
  int64_t numbers(int64_t seeds) const;
};

/// The segments of S x M networks of these layer sizes, and behind them of further parameters.
std::vector<int64_t> segments_of(int64_t members, at::IntArrayRef sizes,
                                 at::IntArrayRef extras = {});

using States = std::vector<std::vector<at::Tensor>>;

/// What a group's steps return, each with an axis for the group's seeds.
using Results = std::vector<at::Tensor>;
using GroupSteps = c10::function_ref<Results(int64_t first, int64_t count, const States& group)>;

/// Calls `steps(first, count, states)` for groups of seeds that cover [0, seeds), and puts their
/// results together along `seed_axis`.
///
/// On the CPU each thread takes seeds of its own through all their steps, as many as are the same
/// number for every thread: within a step the threads would wait for each other. The other seeds
/// share all threads, in groups of as many as go through all their steps within half the last level
/// of the cache: in turns, step by step, many seeds would fetch their parameters and Adam's moments
/// from memory for every step. Seeds of which that half cannot hold one (the default ensemble's)
/// all share the threads, since two side by side would push each other out of the cache. The states
/// of a group are copies in the layout of a smaller stack, which are written back behind it, all
/// but the gradient. Elsewhere, or for one group, its states are the given ones.
///
/// `hidden_numbers` is how many activations a seed has at a time. States that do not have the shape
/// their segments say are passed on as one group for `steps` to refuse.
Results for_seed_groups(int64_t seeds, const std::vector<StackedState>& states,
                        int64_t hidden_numbers, int64_t seed_axis, GroupSteps steps);

/// For comparisons: the bytes that a group may take, and every group has all threads; 0 for the
/// default, as above. Returns what was set.
int64_t set_seed_group_bytes(int64_t bytes);

}  // namespace tom
