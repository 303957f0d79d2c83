// The nodes of the weight tree: what they sum, and the search in one.
#pragma once

#include <array>
#include <bit>
#include <cstddef>

#include "replay/sums.h"

namespace tom::replay {

// The totals of eight children, and for each the sum of those to its left.
struct Node {
  std::array<double, kFan> totals;
  std::array<double, kFan> before;
};

inline void prefetch_sums(const Node& node) { __builtin_prefetch(node.before.data()); }
inline void prefetch(const Node& node) {
  __builtin_prefetch(node.totals.data());
  prefetch_sums(node);
}

#ifdef TOM_VECTOR_LOADS
inline Eight load_totals(Node& node) { return relaxed_vector<Eight>(node.totals.data()); }
inline void store_before(Node& node, const Eight& before) {
  relaxed_vector(node.before.data(), before);
}
#else
inline Eight load_totals(Node& node) {
  std::array<double, kFan> totals;
  for (std::size_t i = 0; i < kFan; ++i) totals[i] = relaxed(node.totals[i]);
  return load_vector<Eight>(totals.data());
}
inline void store_before(Node& node, const Eight& before) {
  std::array<double, kFan> sums;
  store_vector(sums.data(), before);
  for (std::size_t i = 0; i < kFan; ++i) relaxed(node.before[i], sums[i]);
}
#endif

// What is left of each of eight totals. In fours, as one long chain of additions would take twice
// as long; each sum is at least the one before it, whatever the rounding.
inline Eight sums_before(const Eight& totals) {
#ifdef TOM_AVX512
  constexpr Eight none = {};
  Eight sums = __builtin_shufflevector(totals, none, 8, 0, 1, 2, 8, 4, 5, 6);
  sums += __builtin_shufflevector(sums, none, 8, 8, 1, 8, 8, 8, 5, 8);
  sums += __builtin_shufflevector(sums, none, 8, 8, 8, 2, 8, 8, 8, 6);
  const Eight with_own = sums + totals;
  return sums + __builtin_shufflevector(with_own, none, 8, 8, 8, 8, 3, 3, 3, 3);
#else
  const auto in_four = [](const Four& of) {
    constexpr Four none = {};
    Four sums = __builtin_shufflevector(of, none, 4, 0, 1, 2);
    sums += __builtin_shufflevector(sums, none, 4, 4, 1, 4);
    return sums + __builtin_shufflevector(sums, none, 4, 4, 4, 2);
  };
  const Four low = in_four(totals.low);
  return {low, in_four(totals.high) + (low[3] + totals.low[3])};
#endif
}
inline double sum_of_all(const Eight& before, const Eight& totals) {
  return last_of(before) + last_of(totals);
}

// A level's nodes, and the level of their own sums above it.
struct Level {
  Node* nodes;
  Node* above;

  // Gives a node new totals. Not while another thread can see it.
  void set(std::size_t node, const Eight& totals) const {
    const Eight before = sums_before(totals);
    store_vector(nodes[node].totals.data(), totals);
    store_vector(nodes[node].before.data(), before);
    above[node / kFan].totals[node % kFan] = sum_of_all(before, totals);
  }

  // Sums a node afresh from its totals.
  void sum(std::size_t node) const {
    const Eight totals = load_totals(nodes[node]);
    const Eight before = sums_before(totals);
    store_before(nodes[node], before);
    relaxed(above[node / kFan].totals[node % kFan], sum_of_all(before, totals));
  }
};

// Position of the last of eight increasing numbers that is <= x, if the first is 0 <= x. It counts
// instead of branching, as the branches could not be predicted.
inline std::size_t last_at_most(Node& node, double x) {
#ifdef TOM_VECTOR_LOADS
  const auto before = relaxed_vector<Eight>(node.before.data());
  return static_cast<std::size_t>(std::popcount(bits_at_most(before, x) & ~1U));
#else
  // In the middle, then in the half.
  const auto passed = [&](std::size_t i) {
    return static_cast<std::size_t>(relaxed(node.before[i]) <= x);
  };
  const std::size_t i = 4 * passed(4);
  return i + passed(i + 1) + passed(i + 2) + passed(i + 3);
#endif
}

// The top of the tree: up to 16 totals, in two nodes whose sums run through both. Every search
// passes here, many together, so that one wide step costs less than two.
struct Root {
  static constexpr std::size_t kSize = 2 * kFan;

  Node* nodes;
  double* total;

  void sum() const {
    const Eight low = load_totals(nodes[0]), high = load_totals(nodes[1]);
    const Eight before_low = sums_before(low);
    const Eight before_high = sums_before(high) + sum_of_all(before_low, low);
    store_before(nodes[0], before_low);
    store_before(nodes[1], before_high);
    relaxed(*total, sum_of_all(before_high, high));
  }

  // For many targets: takes from each what is to the left of its position, which goes to `child`.
  // Their number is a multiple of eight. The 16 numbers stay in registers, where with AVX-512 eight
  // targets at a time halve what may be their position.
  void search(double* targets, std::size_t* child, std::size_t n) const {
#if defined(TOM_VECTOR_LOADS) && defined(TOM_AVX512)
    const __m512d low = relaxed_vector<Eight>(nodes[0].before.data());
    const __m512d high = relaxed_vector<Eight>(nodes[1].before.data());
    for (std::size_t at = 0; at < n; at += 8) {
      const __m512d target = _mm512_loadu_pd(targets + at);
      __m512i i = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int step = 8; step > 0; step /= 2) {
        const __m512i next = _mm512_add_epi64(i, _mm512_set1_epi64(step));
        const __m512d there = _mm512_permutex2var_pd(low, next, high);
        i = _mm512_mask_mov_epi64(i, _mm512_cmp_pd_mask(there, target, _CMP_LE_OQ), next);
      }
      _mm512_storeu_pd(targets + at, target - _mm512_permutex2var_pd(low, i, high));
      _mm512_storeu_si512(child + at, i);
    }
#elif defined(TOM_VECTOR_LOADS)
    const std::array<Eight, 2> before{relaxed_vector<Eight>(nodes[0].before.data()),
                                      relaxed_vector<Eight>(nodes[1].before.data())};
    using Numbers = std::array<double, kSize>;
    const auto left = std::bit_cast<Numbers>(before);
    for (std::size_t i = 0; i < n; ++i) {
      const unsigned passed =
          bits_at_most(before[0], targets[i]) | bits_at_most(before[1], targets[i]) << kFan;
      child[i] = static_cast<std::size_t>(std::popcount(passed & ~1U));
      targets[i] -= left[child[i]];
    }
#else
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t node = relaxed(nodes[1].before[0]) <= targets[i] ? 1 : 0;
      const std::size_t at = last_at_most(nodes[node], targets[i]);
      child[i] = node * kFan + at;
      targets[i] -= relaxed(nodes[node].before[at]);
    }
#endif
  }
};

}  // namespace tom::replay
