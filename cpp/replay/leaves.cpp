#include "replay/leaves.h"

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

template <class To, class From>
To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

Sixteen side_by_side(const EightFloats& low, const EightFloats& high) {
  return same_bits<Sixteen>(__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                                    12, 13, 14, 15));
}

bool all(const EightFlags& flags) {
  bool all = true;
  for (std::size_t i = 0; i < 8; ++i) all = all && flags[i] != 0;
  return all;
}

}  // namespace

Leaves::Leaves(std::size_t capacity)
    : leaves_((capacity + kFan - 1) / kFan * kFan), wide_((capacity + kFan - 1) / kFan * kFan) {}

// The word for a weight: kWide unless a normal float32 or 0 equals it. (A subnormal one would read
// as 0 in a thread that flushes those.)
std::uint32_t Leaves::narrowed(double weight) {
  if (weight == 0.0) return kZero;
  const auto narrow = static_cast<float>(weight);
  const bool exact = static_cast<double>(narrow) == weight && weight >= kSmallestNormal;
  return exact ? std::bit_cast<std::uint32_t>(narrow) : kWide;
}

void Leaves::store(std::size_t slot, double weight) {
  const std::uint32_t word = narrowed(weight);
  if (word == kWide) relaxed(wide_[slot], weight);
  leaf(slot).store(word, std::memory_order_release);
}

void Leaves::store_if_unset(std::size_t slot, double weight) {
  const std::uint32_t word = narrowed(weight);
  if (word == kWide) {
    double none = 0.0;
    AtomicRef<double>(wide_[slot])
        .compare_exchange_strong(none, weight, std::memory_order_relaxed);
  }
  std::uint32_t unset = 0;
  leaf(slot).compare_exchange_strong(unset, word, std::memory_order_acq_rel);
}

// Whole eights of blocks, as far as there are any. Returns the number of weights done: 0 if one may
// be bad or, among float32 ones, subnormal, for which the caller looks at each.
template <class T>
std::size_t Leaves::assign_whole_eights(std::span<const T> weights, double* sums) {
  const std::size_t full = weights.size() / (8 * kFan) * (8 * kFan);
  Sixteen odd = {};
  EightFlags good = ~EightFlags{};
  const auto assign_block = [&](std::size_t at) {
    Eight low, high;
    Sixteen words;
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(&words, weights.data() + at, sizeof words);
      // Neither zero nor a normal, finite, positive number. (Bits shifted left lose the sign.)
      odd |= same_bits<Sixteen>(words - 0x00800000U >= 0x7f000000U) &
             same_bits<Sixteen>(words << 1 != 0U);
      EightFloats narrow;
      std::memcpy(&narrow, weights.data() + at, sizeof narrow);
      low = __builtin_convertvector(narrow, Eight);
      std::memcpy(&narrow, weights.data() + at + 8, sizeof narrow);
      high = __builtin_convertvector(narrow, Eight);
    } else {
      std::memcpy(&low, weights.data() + at, sizeof low);
      std::memcpy(&high, weights.data() + at + 8, sizeof high);
      good &= (low >= 0.0) & (high >= 0.0);
      const auto narrow_low = __builtin_convertvector(low, EightFloats);
      const auto narrow_high = __builtin_convertvector(high, EightFloats);
      const auto exact = [](const Eight& w, const EightFloats& narrow) {
        return __builtin_convertvector(((__builtin_convertvector(narrow, Eight) == w) &
                                        (w >= kSmallestNormal)) |
                                           (w == 0.0),
                                       EightFloats);  // -1.0 or 0.0
      };
      const Sixteen is_exact = same_bits<Sixteen>(
          side_by_side(exact(low, narrow_low), exact(high, narrow_high)) != Sixteen{});
      words = side_by_side(narrow_low, narrow_high);
      words = (words & is_exact) | (kWide & ~is_exact);
      std::memcpy(wide_.data() + at, &low, sizeof low);
      std::memcpy(wide_.data() + at + 8, &high, sizeof high);
    }
    words |= same_bits<Sixteen>(words == 0U) & kZero;
    std::memcpy(leaves_.data() + at, &words, sizeof words);
    return low + high;
  };
  for (std::size_t at = 0; at < full; at += 8 * kFan) {
    std::array<Eight, 8> halves;
    for (std::size_t i = 0; i < 8; ++i) halves[i] = assign_block(at + i * kFan);
    const Eight eight = replay::block_sums(halves);
    good &= eight <= kMaxWeight;
    std::memcpy(sums + at / kFan, &eight, sizeof eight);
  }
  bool usual = all(good);
  for (std::size_t i = 0; i < kFan; ++i) usual = usual && odd[i] == 0;
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

Leaves::Halves Leaves::load_block(std::size_t block) const {
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

std::int64_t Leaves::find(std::size_t block, double target) const {
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

std::int64_t Leaves::find(std::size_t block, double target) const {
  std::array<double, kFan> w;
  for (std::size_t i = 0; i < kFan; ++i) w[i] = load(block * kFan + i);
  const std::size_t i = covering(w, target);
  return i < kFan ? static_cast<std::int64_t>(block * kFan + i) : -1;
}

#endif

}  // namespace tom::replay
