#include "ops/seed_groups.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <tuple>
#include <utility>

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

bool is_vector(const Tensor& t) { return t.dim() == 1; }

bool is_whole(const StackedState& state, int64_t seeds) {
  const int64_t numbers = state.numbers(seeds);
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

// Seeds [first, first + count).
struct Group {
  int64_t first, count;
};

// Groups of even size for seeds [first, first + seeds), as few as may be.
std::vector<Group> split(int64_t first, int64_t seeds, int64_t at_once) {
  const int64_t groups = (seeds + at_once - 1) / at_once;
  std::vector<Group> result;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = seeds * g / groups;
    result.push_back({first + begin, seeds * (g + 1) / groups - begin});
  }
  return result;
}

// The steps of one group on copies of its states, which it returns too.
std::pair<Results, States> run_group(const std::vector<StackedState>& states, int64_t seeds,
                                     Group group, GroupSteps steps) {
  States copies;
  for (const StackedState& state : states) {
    std::vector<Tensor>& tensors = copies.emplace_back();
    for (size_t i = 0; i < state.tensors.size(); ++i) {
      tensors.push_back(gather(state, i, seeds, group.first, group.count));
    }
  }
  Results results = steps(group.first, group.count, copies);
  for (size_t n = 0; n < states.size(); ++n) {
    write_back(states[n], copies[n], seeds, group.first, group.count);
  }
  return {std::move(results), std::move(copies)};
}

Results joined(const std::vector<Results>& parts, int64_t axis) {
  Results all;
  for (size_t i = 0; i < parts[0].size(); ++i) {
    std::vector<Tensor> tensors;
    for (const Results& part : parts) tensors.push_back(part[i]);
    all.push_back(at::cat(tensors, axis));
  }
  return all;
}

}  // namespace

int64_t StackedState::numbers(int64_t seeds) const {
  return seeds * std::accumulate(segments.begin(), segments.end(), int64_t{0});
}

std::vector<int64_t> segments_of(int64_t members, at::IntArrayRef sizes, at::IntArrayRef extras) {
  std::vector<int64_t> segments;
  for (size_t l = 0; l + 1 < sizes.size(); ++l) {
    segments.push_back(members * sizes[l] * sizes[l + 1]);
    segments.push_back(members * sizes[l + 1]);
  }
  segments.insert(segments.end(), extras.begin(), extras.end());
  return segments;
}

namespace {

Results in_groups(int64_t seeds, const std::vector<StackedState>& states, int64_t hidden_numbers,
                  int64_t seed_axis, GroupSteps steps) {
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
  const int64_t set = bytes_set.load(std::memory_order_relaxed);
  const int64_t allowed = set > 0 ? set : kDefaultBytes;
  const int64_t at_once = std::max<int64_t>(1, allowed / std::max<int64_t>(1, bytes));
  const int64_t threads = set > 0 || at::in_parallel_region() ? 1 : at::get_num_threads();
  const bool fits = bytes <= allowed;
  const int64_t alone = threads > 1 && fits ? seeds / threads * threads : 0;  // on one thread each
  std::vector<Group> groups = split(0, alone, 1);
  for (const Group group : split(alone, seeds - alone, at_once)) groups.push_back(group);
  if (groups.size() == 1) return steps(0, seeds, given);

  std::vector<Results> results(groups.size());
  States last;
  const at::ThreadLocalState caller;  // whether gradients are recorded, for instance
  at::parallel_for(0, alone, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard guard(caller);
    for (int64_t g = begin; g < end; ++g) {
      auto [result, copies] = run_group(states, seeds, groups[g], steps);
      results[g] = std::move(result);
      if (g + 1 == alone) last = std::move(copies);
    }
  });
  for (size_t g = alone; g < groups.size(); ++g) {
    std::tie(results[g], last) = run_group(states, seeds, groups[g], steps);
  }
  // Every group has counted the same steps from the same beginning.
  for (size_t n = 0; n < states.size(); ++n) {
    for (size_t i = 0; i < last[n].size(); ++i) {
      Tensor counter = states[n].tensors[i];
      if (!is_vector(counter)) counter.copy_(last[n][i]);
    }
  }
  return joined(results, seed_axis);
}

}  // namespace

Results for_seed_groups(int64_t seeds, const std::vector<StackedState>& states,
                        int64_t hidden_numbers, int64_t seed_axis, GroupSteps steps) {
  Results results = in_groups(seeds, states, hidden_numbers, seed_axis, steps);
  // Kernels that write to memory themselves tell nobody. Autograd must know, to refuse the way back
  // through what was computed from the tensors before.
  for (const StackedState& state : states) {
    for (const Tensor& t : state.tensors) {
      if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
    }
  }
  return results;
}

int64_t set_seed_group_bytes(int64_t bytes) { return bytes_set.exchange(bytes); }

TORCH_LIBRARY_IMPL(tom_tests, CompositeExplicitAutograd, m) {
  m.impl("set_seed_group_bytes", set_seed_group_bytes);
}

}  // namespace tom
