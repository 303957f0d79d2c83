#include "replay/leaves.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace tom::replay {
namespace {

using EightFloats [[gnu::vector_size(32)]] = float;
using Sixteen [[gnu::vector_size(64)]] = std::uint32_t;
using SixteenFlags [[gnu::vector_size(64)]] = std::int32_t;  // what a comparison of words gives
using EightFlags [[gnu::vector_size(64)]] = std::int64_t;    // and one of doubles

constexpr double kSmallestNormal = std::numeric_limits<float>::min();
constexpr std::uint32_t kNormalFrom = 0x00800000;  // the bits of float32 numbers
constexpr std::size_t kAtOnce = kFan * kBlock;     // leaves below a node
constexpr std::size_t kAhead = 512;                // leaves between the prefetch and the store

// Numbers that are 2^-896 times as large as the float32 numbers they are made of: the bits of a
// double that come after the sign, of which the exponent is that of the float. Nothing is shuffled,
// as a conversion would; sums are rounded as if they were not scaled. A bad float gives a large
// number, as its sign becomes a bit of the exponent, and infinity and NaN are numbers from 2^128
// on.
constexpr double kScale = 0x1p896;
constexpr double kGoodScaled = 0x1p128 / kScale;
static_assert(std::endian::native == std::endian::little);
constexpr std::uint64_t kWithSign = 0x1fffffffe0000000;
constexpr std::uint64_t kWithoutSign = 0x0fffffffe0000000;  // -0.0 is 0 then
Eight scaled_even(const Sixteen& words, std::uint64_t kept) {
  return reinterpret_cast<Eight>(reinterpret_cast<EightWords>(words) << 29 & kept);
}
Eight scaled_odd(const Sixteen& words, std::uint64_t kept) {
  return reinterpret_cast<Eight>(reinterpret_cast<EightWords>(words) >> 3 & kept);
}

// (GCC 12 converts vectors of this size in four parts when it is left to __builtin_convertvector.)
Eight widened(const EightFloats& w) {
#ifdef TOM_VECTOR_LOADS
  return _mm512_cvtps_pd(w);
#else
  return __builtin_convertvector(w, Eight);
#endif
}
EightFloats narrowed(const Eight& w) {
#ifdef TOM_VECTOR_LOADS
  return _mm512_cvtpd_ps(w);
#else
  return __builtin_convertvector(w, EightFloats);
#endif
}

Sixteen smaller(const Sixteen& a, const Sixteen& b) { return a < b ? a : b; }

// One less, which makes of 0 the largest word.
Sixteen less_one(const Sixteen& words) { return words - 1U; }

// These leaves were last touched two rewrites ago. A store does not wait for them, but it fills the
// store buffer; so it asks for a line further on, beyond the last leaf too.
void store_line(const Sixteen& words, std::uint32_t* leaves) {
  const auto ahead = reinterpret_cast<std::uintptr_t>(leaves) + kAhead * sizeof *leaves;
  __builtin_prefetch(reinterpret_cast<const void*>(ahead), /*rw=*/1);
  std::memcpy(leaves, &words, sizeof words);
}

bool all(const EightFlags& flags) {
  bool all = true;
  for (std::size_t i = 0; i < 8; ++i) all = all && flags[i] != 0;
  return all;
}

// Bit i tells whether number i is the same in both.
unsigned equal(const Eight& a, const Eight& b) {
#ifdef TOM_VECTOR_LOADS
  return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ);
#else
  unsigned bits = 0;
  for (std::size_t i = 0; i < 8; ++i) bits |= static_cast<unsigned>(a[i] == b[i]) << i;
  return bits;
#endif
}

bool any(const SixteenFlags& flags) {
#ifdef TOM_VECTOR_LOADS
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(flags)) != 0;
#else
  bool any = false;
  for (std::size_t i = 0; i < kBlock; ++i) any = any || flags[i] != 0;
  return any;
#endif
}

// The words whose bit is set, and `other` elsewhere.
Sixteen choose(unsigned bits, const Sixteen& words, std::uint32_t other) {
#ifdef TOM_VECTOR_LOADS
  return reinterpret_cast<Sixteen>(_mm512_mask_mov_epi32(_mm512_set1_epi32(static_cast<int>(other)),
                                                         static_cast<__mmask16>(bits),
                                                         reinterpret_cast<__m512i>(words)));
#else
  Sixteen chosen = words;
  for (std::size_t i = 0; i < kBlock; ++i) {
    if ((bits >> i & 1) == 0) chosen[i] = other;
  }
  return chosen;
#endif
}

}  // namespace

Leaves::Leaves(std::size_t capacity)
    : leaves_(divide_up(capacity, kBlock) * kBlock), wide_(divide_up(capacity, kBlock) * kBlock) {}

// The word for a weight: kWide unless a normal float32 or 0 equals it. (A subnormal one would read
// as 0 in a thread that flushes those.)
std::uint32_t Leaves::word_for(double weight) {
  if (weight == 0.0) return kZero;
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
  EightFlags good = ~EightFlags{};
  Sixteen smallest = ~Sixteen{};
  for (std::size_t at = 0; at < full; at += kAtOnce) {
    std::array<Sixteen, kFan> words;
    std::memcpy(&words, weights.data() + at, sizeof words);
    std::array<Eight, kFan> pairs;
    Sixteen least = words[0];
    for (std::size_t i = 0; i < kFan; ++i) {
      store_line(words[i], leaves_.data() + at + i * kBlock);
      pairs[i] = scaled_even(words[i], kWithSign) + scaled_odd(words[i], kWithSign);
      least = smaller(words[i], least);
    }
    const Eight totals = block_sums(pairs);
    good &= totals < kGoodScaled;
    sums.set(at / kAtOnce, totals * kScale);
    if (any(least < kNormalFrom)) {
      for (const Sixteen& w : words) smallest = smaller(less_one(w), smallest);
    }
  }
  return all(good) && !any(smallest < kNormalFrom - 1) ? full : 0;
}

std::size_t Leaves::assign_whole_nodes(std::span<const double> weights, const Level& sums) {
  const std::size_t full = weights.size() / kAtOnce * kAtOnce;
  EightWords signs = {};
  EightFlags good = ~EightFlags{};
  Sixteen smallest = ~Sixteen{};
  for (std::size_t at = 0; at < full; at += kAtOnce) {
    std::array<Eight, kFan> pairs;
    for (std::size_t i = 0; i < kFan; ++i) {
      const std::size_t slot = at + i * kBlock;
      Eight low, high;
      std::memcpy(&low, weights.data() + slot, sizeof low);
      std::memcpy(&high, weights.data() + slot + 8, sizeof high);
      signs |= reinterpret_cast<EightWords>(low) | reinterpret_cast<EightWords>(high);
      const EightFloats narrow_low = narrowed(low), narrow_high = narrowed(high);
      const unsigned exact = equal(widened(narrow_low), low) | equal(widened(narrow_high), high)
                                                                   << 8;
      const auto both = __builtin_shufflevector(narrow_low, narrow_high, 0, 1, 2, 3, 4, 5, 6, 7, 8,
                                                9, 10, 11, 12, 13, 14, 15);
      const Sixteen words = choose(exact, reinterpret_cast<Sixteen>(both), kWide);
      if (exact != 0xffff) {
        std::memcpy(wide_.data() + slot, &low, sizeof low);
        std::memcpy(wide_.data() + slot + 8, &high, sizeof high);
      }
      smallest = smaller(less_one(words), smallest);
      store_line(words, leaves_.data() + slot);
      pairs[i] = even_of(low, high) + odd_of(low, high);
    }
    const Eight totals = block_sums(pairs);
    good &= totals <= kMaxWeight;
    sums.set(at / kAtOnce, totals);
  }
  const bool usual =
      all(good & (reinterpret_cast<EightFlags>(signs) >= 0)) && !any(smallest < kNormalFrom - 1);
  return usual ? full : 0;
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
    Eight totals = {};
    for (std::size_t i = 0; i < kFan; ++i) {
      const std::size_t block = node * kFan + i;
      if (block * kBlock < used) totals[i] = sum(block);
    }
    sums.set(node, totals);
  }
  return true;
}

template bool Leaves::assign(std::span<const float>, std::size_t, const Level&);
template bool Leaves::assign(std::span<const double>, std::size_t, const Level&);

#ifdef TOM_VECTOR_LOADS

inline Leaves::Block Leaves::load_block(std::size_t block) const {
  const __m512i words = relaxed_sixteen(leaves_.data() + block * kBlock);
  const unsigned positive = _mm512_cmpgt_epi32_mask(words, _mm512_setzero_si512());
  const unsigned wide = _mm512_cmpeq_epi32_mask(words, _mm512_set1_epi32(kWide));
  if (!wide) {
    const auto of = reinterpret_cast<Sixteen>(words);
    return {scaled_even(of, kWithoutSign), scaled_odd(of, kWithoutSign), 1 / kScale, kScale,
            positive};
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  const double* const from = wide_.data() + block * kBlock;
  const __m512 narrow = _mm512_castsi512_ps(words);
  const Eight low = _mm512_mask_mov_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(narrow)),
                                       static_cast<__mmask8>(wide), relaxed_eight(from));
  const Eight high = _mm512_mask_mov_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(narrow, 1)),
                                        static_cast<__mmask8>(wide >> 8), relaxed_eight(from + 8));
  return {even_of(low, high), odd_of(low, high), 1.0, 1.0, positive};
}

double Leaves::sum(std::size_t block) const {
  const Block w = load_block(block);
  return block_sum(w.even + w.odd) * w.inverse;
}

// (A target so small that it underflows when it is scaled is below every positive weight, before
// and after.)
inline std::int64_t Leaves::find_in_block(std::size_t block, double target) const {
  const Block w = load_block(block);
  const std::size_t i = covering(w.even, w.odd, w.positive, target * w.scale);
  return i < kBlock ? static_cast<std::int64_t>(block * kBlock + i) : -1;
}

#else

double Leaves::sum(std::size_t block) const {
  Eight pairs;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t slot = block * kBlock + 2 * i;
    pairs[i] = load(slot) + load(slot + 1);
  }
  return block_sum(pairs);
}

inline std::int64_t Leaves::find_in_block(std::size_t block, double target) const {
  std::array<double, kBlock> w;
  for (std::size_t i = 0; i < kBlock; ++i) w[i] = load(block * kBlock + i);
  const std::size_t i = covering(w, target);
  return i < kBlock ? static_cast<std::int64_t>(block * kBlock + i) : -1;
}

#endif

void Leaves::find(std::span<const std::size_t> blocks, const double* targets,
                  std::int64_t* slots) const {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    slots[i] = find_in_block(blocks[i], targets[i] > 0.0 ? targets[i] : 0.0);
  }
}

}  // namespace tom::replay
