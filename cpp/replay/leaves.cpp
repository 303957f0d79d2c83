#include "replay/leaves.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <type_traits>

namespace tom::replay {
namespace {

using EightFloats [[gnu::vector_size(32)]] = float;
using Sixteen [[gnu::vector_size(64)]] = std::uint32_t;
using EightFlags [[gnu::vector_size(64)]] = std::int64_t;  // what a comparison of doubles gives

constexpr double kSmallestNormal = std::numeric_limits<float>::min();
constexpr std::uint32_t kNormalFrom = 0x00800000;  // the bits of float32 numbers
constexpr std::uint32_t kInfinite = 0x7f800000;
constexpr std::size_t kAhead = 512;  // leaves between the prefetch and the store

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

// The words whose bit is set, and `other` elsewhere.
Sixteen choose(unsigned bits, const Sixteen& words, std::uint32_t other) {
#ifdef TOM_VECTOR_LOADS
  return reinterpret_cast<Sixteen>(_mm512_mask_mov_epi32(_mm512_set1_epi32(static_cast<int>(other)),
                                                         static_cast<__mmask16>(bits),
                                                         reinterpret_cast<__m512i>(words)));
#else
  Sixteen chosen = words;
  for (std::size_t i = 0; i < kFan; ++i) {
    if ((bits >> i & 1) == 0) chosen[i] = other;
  }
  return chosen;
#endif
}

}  // namespace

Leaves::Leaves(std::size_t capacity)
    : leaves_((capacity + kFan - 1) / kFan * kFan), wide_((capacity + kFan - 1) / kFan * kFan) {}

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

// Whole eights of blocks, as far as there are any. Returns the number of weights done: 0 if one may
// be bad, is -0.0, or equals a subnormal float32, for which the caller looks at each.
template <class T>
std::size_t Leaves::assign_whole_eights(std::span<const T> weights, double* sums) {
  std::uint32_t* const leaves = leaves_.data();
  double* const wide = wide_.data();
  const std::size_t full = weights.size() / (8 * kFan) * (8 * kFan);
  // Of words: the bits of floats that are not negative order as the floats do; those of negative
  // ones are above them all. The smallest is of those that are not 0, less 1.
  Sixteen largest = {}, smallest = ~Sixteen{};
  EightWords signs = {};  // of doubles
  EightFlags good = ~EightFlags{};
  const auto assign_block = [&](std::size_t at) {
    const T* const from = weights.data() + at;
    // These leaves were last touched two rewrites ago; a store does not wait for them, but it fills
    // the store buffer.
    __builtin_prefetch(leaves + at + kAhead, /*rw=*/1);
    Eight low, high;
    Sixteen words;
    if constexpr (std::is_same_v<T, float>) {
      EightFloats narrow_low, narrow_high;
      std::memcpy(&narrow_low, from, sizeof narrow_low);
      std::memcpy(&narrow_high, from + 8, sizeof narrow_high);
      low = widened(narrow_low);
      high = widened(narrow_high);
      std::memcpy(&words, from, sizeof words);
      largest = words > largest ? words : largest;
    } else {
      std::memcpy(&low, from, sizeof low);
      std::memcpy(&high, from + 8, sizeof high);
      signs |= reinterpret_cast<EightWords>(low) | reinterpret_cast<EightWords>(high);
      const EightFloats narrow_low = narrowed(low), narrow_high = narrowed(high);
      const unsigned exact = equal(widened(narrow_low), low) | equal(widened(narrow_high), high)
                                                                   << 8;
      const auto both = __builtin_shufflevector(narrow_low, narrow_high, 0, 1, 2, 3, 4, 5, 6, 7, 8,
                                                9, 10, 11, 12, 13, 14, 15);
      words = choose(exact, reinterpret_cast<Sixteen>(both), kWide);
      if (exact != 0xffff) {
        std::memcpy(wide + at, &low, sizeof low);
        std::memcpy(wide + at + 8, &high, sizeof high);
      }
    }
    const Sixteen less = words - 1U;
    smallest = less < smallest ? less : smallest;
    words = words == 0U ? Sixteen{} + kZero : words;
    std::memcpy(leaves + at, &words, sizeof words);
    return low + high;
  };
  for (std::size_t at = 0; at < full; at += 8 * kFan) {
    std::array<Eight, 8> halves;
    for (std::size_t i = 0; i < 8; ++i) halves[i] = assign_block(at + i * kFan);
    const Eight eight = replay::block_sums(halves);
    good &= eight <= kMaxWeight;
    std::memcpy(sums + at / kFan, &eight, sizeof eight);
  }
  bool usual = all(good & (reinterpret_cast<EightFlags>(signs) >= 0));
  for (std::size_t i = 0; i < kFan; ++i) {
    usual = usual && smallest[i] >= kNormalFrom - 1 && largest[i] < kInfinite;
  }
  return usual ? full : 0;
}

template <class T>
bool Leaves::assign(std::span<const T> weights, std::size_t used, double* block_sums) {
  const std::size_t done = assign_whole_eights(weights, block_sums);
  for (std::size_t slot = done; slot < weights.size(); ++slot) {
    const auto w = static_cast<double>(weights[slot]);
    if (!is_weight(w)) return false;
    store(slot, w);
  }
  for (std::size_t slot = weights.size(); slot < used; ++slot) {
    leaves_[slot] = 0;
    if (wide_[slot] != 0.0) wide_[slot] = 0.0;  // (looks first, as it may never have been touched)
  }
  for (std::size_t block = done / kFan; block * kFan < used; ++block) {
    block_sums[block] = sum(block);
  }
  return true;
}

template bool Leaves::assign(std::span<const float>, std::size_t, double*);
template bool Leaves::assign(std::span<const double>, std::size_t, double*);

#ifdef TOM_VECTOR_LOADS

inline Leaves::Halves Leaves::load_block(std::size_t block) const {
  const __m512i words = relaxed_sixteen(leaves_.data() + block * kFan);
  const __m512 narrow = _mm512_castsi512_ps(words);
  Halves w{_mm512_cvtps_pd(_mm512_castps512_ps256(narrow)),
           _mm512_cvtps_pd(_mm512_extractf32x8_ps(narrow, 1))};
  const unsigned wide = _mm512_cmpeq_epi32_mask(words, _mm512_set1_epi32(kWide));
  if (wide) {
    std::atomic_thread_fence(std::memory_order_acquire);
    const double* const from = wide_.data() + block * kFan;
    w.low = _mm512_mask_mov_pd(w.low, static_cast<__mmask8>(wide), relaxed_eight(from));
    w.high = _mm512_mask_mov_pd(w.high, static_cast<__mmask8>(wide >> 8), relaxed_eight(from + 8));
  }
  return w;
}

double Leaves::sum(std::size_t block) const {
  const Halves w = load_block(block);
  return block_sum(w.low + w.high);
}

inline std::int64_t Leaves::find_in_block(std::size_t block, double target) const {
  const Halves w = load_block(block);
  const std::size_t i = covering(w.low, w.high, target);
  return i < kFan ? static_cast<std::int64_t>(block * kFan + i) : -1;
}

#else

double Leaves::sum(std::size_t block) const {
  Eight w;
  for (std::size_t i = 0; i < 8; ++i) {
    w[i] = load(block * kFan + i);
    w[i] += load(block * kFan + i + 8);
  }
  return block_sum(w);
}

inline std::int64_t Leaves::find_in_block(std::size_t block, double target) const {
  std::array<double, kFan> w;
  for (std::size_t i = 0; i < kFan; ++i) w[i] = load(block * kFan + i);
  const std::size_t i = covering(w, target);
  return i < kFan ? static_cast<std::int64_t>(block * kFan + i) : -1;
}

#endif

void Leaves::find(std::span<const std::size_t> blocks, const double* targets,
                  std::int64_t* slots) const {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    slots[i] = find_in_block(blocks[i], std::max(targets[i], 0.0));
  }
}

}  // namespace tom::replay
