#include "ops/seed_groups.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "ops/cpu_kernels.h"

namespace tom {
namespace {

using at::Tensor;

constexpr size_t kGradient = 1;  // of a state's tensors; each step writes it before it reads it

std::atomic<int64_t> bytes_set{0};

// Half of the last-level cache that the cores of a present server processor share; the other half
// is for what passes through. A constant, because sysconf adds up the caches of cores that are not
// this process's.
constexpr int64_t kDefaultBytes = 16 << 20;

int64_t group_bytes() {
  const int64_t set = bytes_set.load(std::memory_order_relaxed);
  return set > 0 ? set : kDefaultBytes;
}

bool is_vector(const Tensor& t) { return t.dim() == 1; }

bool is_whole(const StackedState& state, int64_t seeds) {
  const int64_t numbers =
      seeds * std::accumulate(state.segments.begin(), state.segments.end(), int64_t{0});
  return std::all_of(state.tensors.begin(), state.tensors.end(), [&](const Tensor& t) {
    return takes_float_kernels(t) &&
           (t.dim() == 0 || (is_vector(t) && t.numel() == numbers && t.is_contiguous()));
  });
}

// Calls f(whole, part) for each segment of a vector of all seeds and of one of the group's alone.
template <typename F>
void each_segment(const StackedState& state, const Tensor& whole, int64_t seeds, int64_t first,
                  int64_t count, const F& f) {
  int64_t at = 0, at_group = 0;
  for (const int64_t n : state.segments) {
    f(whole.narrow(0, at + first * n, count * n), at_group, count * n);
    at += seeds * n;
    at_group += count * n;
  }
}

Tensor gather(const StackedState& state, size_t index, int64_t seeds, int64_t first,
              int64_t count) {
  const Tensor& whole = state.tensors[index];
  if (!is_vector(whole)) return whole.clone();
  if (index == kGradient) return at::empty({whole.numel() / seeds * count}, whole.options());
  std::vector<Tensor> parts;
  each_segment(state, whole, seeds, first, count,
               [&](const Tensor& part, int64_t, int64_t) { parts.push_back(part); });
  return at::cat(parts);
}

void write_back(const StackedState& state, const std::vector<Tensor>& group, int64_t seeds,
                int64_t first, int64_t count) {
  for (size_t i = 0; i < group.size(); ++i) {
    if (!is_vector(group[i]) || i == kGradient) continue;
    each_segment(
        state, state.tensors[i], seeds, first, count,
        [&](Tensor part, int64_t at, int64_t n) { part.copy_(group[i].narrow(0, at, n)); });
  }
}

}  // namespace

std::vector<int64_t> segments_of(int64_t members, at::IntArrayRef sizes, at::IntArrayRef extras) {
  std::vector<int64_t> segments;
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    segments.push_back(members * sizes[l] * sizes[l + 1]);
    segments.push_back(members * sizes[l + 1]);
  }
  segments.insert(segments.end(), extras.begin(), extras.end());
  return segments;
}

void for_seed_groups(int64_t seeds, const std::vector<StackedState>& states, int64_t hidden_numbers,
                     c10::function_ref<void(int64_t, int64_t, const States&)> steps) {
  int64_t bytes = 0;
  bool whole = true;
  States given;
  for (const StackedState& state : states) {
    whole = whole && is_whole(state, seeds);
    for (const Tensor& t : state.tensors) bytes += static_cast<int64_t>(t.nbytes());
    given.push_back(state.tensors);
  }
  if (!whole || seeds <= 1) return steps(0, seeds, given);
  bytes = bytes / seeds + hidden_numbers * given[0][0].element_size();
  const int64_t at_once = std::max<int64_t>(1, group_bytes() / std::max<int64_t>(1, bytes));
  const int64_t groups = (seeds + at_once - 1) / at_once;
  if (groups == 1) return steps(0, seeds, given);
  States group(states.size());
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = seeds * g / groups, count = seeds * (g + 1) / groups - first;
    for (size_t n = 0; n < states.size(); ++n) {
      group[n].clear();
      for (size_t i = 0; i < states[n].tensors.size(); ++i) {
        group[n].push_back(gather(states[n], i, seeds, first, count));
      }
    }
    steps(first, count, group);
    for (size_t n = 0; n < states.size(); ++n) {
      write_back(states[n], group[n], seeds, first, count);
    }
  }
  // Every group has counted the same steps from the same beginning.
  for (size_t n = 0; n < states.size(); ++n) {
    for (size_t i = 0; i < group[n].size(); ++i) {
      Tensor counter = states[n].tensors[i];
      if (!is_vector(counter)) counter.copy_(group[n][i]);
    }
  }
}

int64_t set_seed_group_bytes(int64_t bytes) { return bytes_set.exchange(bytes); }

TORCH_LIBRARY_IMPL(tom, CompositeExplicitAutograd, m) {
  m.impl("set_seed_group_bytes", set_seed_group_bytes);
}

}  // namespace tom
