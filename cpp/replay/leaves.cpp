#include "replay/leaves.h"

#include <algorithm>
#include <array>
#include <limits>

#include "replay/float_words.h"

namespace tom::replay {
namespace {

constexpr double kSmallestNormal = std::numeric_limits<float>::min();
constexpr std::uint32_t kNormalFrom = 0x00800000;  // the bits of float32 numbers
constexpr std::size_t kAtOnce = kFan * kBlock;     // leaves below a node
constexpr std::size_t kAhead = 512;                // leaves between the prefetch and the store

// Blocks that are loaded before the first of them is stored: a load waits for an earlier store
// whose address has the same last twelve bits. Without AVX-512 there are no registers for more than
// one.
#ifdef TOM_AVX512
constexpr std::size_t kLoaded = kFan;
#else
constexpr std::size_t kLoaded = 1;
#endif

// These leaves were last touched two rewrites ago. A store does not wait for them, but it fills the
// store buffer; so it asks for a line further on, beyond the last leaf too.
void store_line(const Sixteen& words, std::uint32_t* leaves) {
  const auto ahead = reinterpret_cast<std::uintptr_t>(leaves) + kAhead * sizeof *leaves;
  __builtin_prefetch(reinterpret_cast<const void*>(ahead), /*rw=*/1);
  store_vector(leaves, words);
}

}  // namespace

Leaves::Leaves(std::size_t capacity)
    : leaves_(divide_up(capacity, kBlock) * kBlock), wide_(divide_up(capacity, kBlock) * kBlock) {}

// The word for a weight: kWide unless it is below kMinWeight or a normal float32 equals it. (A
// subnormal one would read as 0 in a thread that flushes those.)
std::uint32_t Leaves::word_for(double weight) {
  if (weight < kMinWeight) return kZero;
  const auto narrow = static_cast<float>(weight);
  const bool exact = static_cast<double>(narrow) == weight && weight >= kSmallestNormal;
  return exact ? std::bit_cast<std::uint32_t>(narrow) : kWide;
}

void Leaves::store(std::size_t slot, double weight) {
  const std::uint32_t word = word_for(weight);
  if (word == kWide) relaxed(wide_[slot], weight);
  leaf(slot).store(word, std::memory_order_release);
}

void Leaves::store_if_unset(std::size_t slot, double weight) {
  const std::uint32_t word = word_for(weight);
  if (word == kWide) {
    double none = 0.0;
    AtomicRef<double>(wide_[slot]).compare_exchange_strong(none, weight, std::memory_order_relaxed);
  }
  std::uint32_t unset = 0;
  leaf(slot).compare_exchange_strong(unset, word, std::memory_order_acq_rel);
}

// The weights below whole nodes, as far as there are any. Returns their number: 0 if one may be
// bad, is -0.0, or equals a subnormal float32, for which the caller looks at each.
std::size_t Leaves::assign_whole_nodes(std::span<const float> weights, const Level& sums) {
  const std::size_t full = weights.size() / kAtOnce * kAtOnce;
  EightFlags good = all_set();
  Sixteen smallest = largest_words();
  for (std::size_t at = 0; at < full; at += kAtOnce) {
    std::array<Eight, kFan> pairs;
    Sixteen least = largest_words();
    for (std::size_t first = 0; first < kFan; first += kLoaded) {
      std::array<Sixteen, kLoaded> words;
      for (std::size_t i = 0; i < kLoaded; ++i) {
        words[i] = load_vector<Sixteen>(weights.data() + at + (first + i) * kBlock);
      }
      for (std::size_t i = 0; i < kLoaded; ++i) {
        store_line(words[i], leaves_.data() + at + (first + i) * kBlock);
        pairs[first + i] = scaled_even(words[i], kWithSign) + scaled_odd(words[i], kWithSign);
        least = smaller(words[i], least);
      }
    }
    const Eight totals = block_sums(pairs);
    good = good & up_to(kMaxScaled, totals);
    sums.set(at / kAtOnce, totals * kScale);
    if (any_below(least, kNormalFrom)) {
      for (std::size_t i = 0; i < kFan; ++i) {  // (rare, and so not worth keeping the words for)
        const auto words = load_vector<Sixteen>(leaves_.data() + at + i * kBlock);
        smallest = smaller(less_one(words), smallest);
      }
    }
  }
  return all(good) && !any_below(smallest, kNormalFrom - 1) ? full : 0;
}

std::size_t Leaves::assign_whole_nodes(std::span<const double> weights, const Level& sums) {
  const std::size_t full = weights.size() / kAtOnce * kAtOnce;
  EightFlags good = all_set(), signs = {};
  Sixteen smallest = largest_words();
  for (std::size_t at = 0; at < full; at += kAtOnce) {
    std::array<Eight, kFan> pairs;
    for (std::size_t i = 0; i < kFan; ++i) {
      const std::size_t slot = at + i * kBlock;
      auto low = load_vector<Eight>(weights.data() + slot);
      auto high = load_vector<Eight>(weights.data() + slot + kBlock / 2);
      signs = signs | negative(low) | negative(high);
      auto [words, exact] = narrowed(low, high, kWide);
      if (!exact) {
        low = zero_below(kMinWeight, low);
        high = zero_below(kMinWeight, high);
        words = narrowed(low, high, kWide).words;
        store_vector(wide_.data() + slot, low);
        store_vector(wide_.data() + slot + kBlock / 2, high);
      }
      smallest = smaller(less_one(words), smallest);
      store_line(words, leaves_.data() + slot);
      pairs[i] = even_of(low, high) + odd_of(low, high);
    }
    const Eight totals = block_sums(pairs);
    good = good & up_to(kMaxWeight, totals);
    sums.set(at / kAtOnce, totals);
  }
  return all(good) && !any(signs) && !any_below(smallest, kNormalFrom - 1) ? full : 0;
}

template <class T>
bool Leaves::assign(std::span<const T> weights, std::size_t used, const Level& sums) {
  const std::size_t done = assign_whole_nodes(weights, sums);
  for (std::size_t slot = done; slot < weights.size(); ++slot) {
    const auto w = static_cast<double>(weights[slot]);
    if (!is_weight(w)) return false;
    store(slot, w);
  }
  for (std::size_t slot = weights.size(); slot < used; ++slot) {
    leaves_[slot] = 0;
    if (wide_[slot] != 0.0) wide_[slot] = 0.0;  // (looks first, as it may never have been touched)
  }
  for (std::size_t node = done / kAtOnce; node * kAtOnce < used; ++node) {
    std::array<double, kFan> totals = {};
    for (std::size_t i = 0; i < kFan; ++i) {
      const std::size_t block = node * kFan + i;
      if (block * kBlock < used) totals[i] = sum(block);
    }
    sums.set(node, load_vector<Eight>(totals.data()));
  }
  return true;
}

template bool Leaves::assign(std::span<const float>, std::size_t, const Level&);
template bool Leaves::assign(std::span<const double>, std::size_t, const Level&);

inline Leaves::Block Leaves::load_block(std::size_t block) const {
#ifdef TOM_VECTOR_LOADS
  const auto words = relaxed_vector<Sixteen>(leaves_.data() + block * kBlock);
  if (!any_equal(words, kWide)) {
    return {scaled_even(words, kWithoutSign), scaled_odd(words, kWithoutSign), 1 / kScale, kScale,
            kSmallestNormal};
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  const double* const from = wide_.data() + block * kBlock;
  const Eight low = widened<false>(words, kWide, relaxed_vector<Eight>(from));
  const Eight high = widened<true>(words, kWide, relaxed_vector<Eight>(from + kBlock / 2));
  return {even_of(low, high), odd_of(low, high), 1.0, 1.0, kMinWeight};
#else
  std::array<double, kBlock / 2> even, odd;
  for (std::size_t i = 0; i < kBlock; ++i) {
    (i % 2 == 0 ? even : odd)[i / 2] = load(block * kBlock + i);
  }
  return {load_vector<Eight>(even.data()), load_vector<Eight>(odd.data()), 1.0, 1.0, kMinWeight};
#endif
}

double Leaves::sum(std::size_t block) const {
  const Block w = load_block(block);
  return block_sum(w.even + w.odd) * w.inverse;
}

inline std::int64_t Leaves::find_in_block(std::size_t block, double target) const {
  const Block w = load_block(block);
  const std::size_t i = covering(w.even, w.odd, target >= w.least ? target * w.scale : 0.0);
  return i < kBlock ? static_cast<std::int64_t>(block * kBlock + i) : -1;
}

void Leaves::find(std::span<const std::size_t> blocks, const double* targets,
                  std::int64_t* slots) const {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    slots[i] = find_in_block(blocks[i], targets[i]);
  }
}

}  // namespace tom::replay
