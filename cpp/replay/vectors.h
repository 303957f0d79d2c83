// Vectors of eight doubles or words and of sixteen half words: one register of AVX-512, two halves
// elsewhere. (GCC takes a vector apart, number by number, where it is shuffled and no register is
// as wide.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define TOM_AVX512
#elif defined(__AVX2__)
#define TOM_AVX2
#endif
#if defined(TOM_AVX512) || defined(TOM_AVX2)
#include <immintrin.h>
#endif

// Shared memory is loaded in whole vectors, unless a checker has to see each access. What the
// vector loads do is then not what is checked: tests/replay_draws compares both ways' draws.
#if defined(__SANITIZE_THREAD__)
#define TOM_SEEN_BY_CHECKER
#elif defined(__has_feature)  // Clang
#if __has_feature(thread_sanitizer)
#define TOM_SEEN_BY_CHECKER
#endif
#endif
#if (defined(TOM_AVX512) || defined(TOM_AVX2)) && !defined(TOM_SEEN_BY_CHECKER) && \
    !defined(TOM_INTERLEAVE)
#define TOM_VECTOR_LOADS
#endif

namespace tom::replay {

#ifdef TOM_AVX512
inline constexpr std::size_t kRegister = 64;  // bytes
#else
inline constexpr std::size_t kRegister = 32;
#endif
using Doubles [[gnu::vector_size(kRegister)]] = double;
using Words [[gnu::vector_size(kRegister)]] = std::uint64_t;
using Flags = decltype(Doubles{} < Doubles{});  // of 64-bit integers; which, compilers differ on
using HalfWords [[gnu::vector_size(kRegister)]] = std::uint32_t;
using HalfFlags [[gnu::vector_size(kRegister)]] = std::int32_t;  // and what one of half words gives
using Four [[gnu::vector_size(32)]] = double;

template <class V>
struct Halves {
  V low, high;
};

// Bit i tells whether flag i is set, of which the sign is looked at.
template <class V>
unsigned bits_of(const V& flags) {
  constexpr std::size_t kFlags = sizeof flags / sizeof flags[0];
  unsigned bits = 0;
#if defined(TOM_AVX512)
  const auto all = reinterpret_cast<__m512i>(flags);
  bits = kFlags == 8 ? _mm512_movepi64_mask(all) : _mm512_movepi32_mask(all);
#elif defined(TOM_AVX2)
  bits = static_cast<unsigned>(kFlags == 4 ? _mm256_movemask_pd(reinterpret_cast<__m256d>(flags))
                                           : _mm256_movemask_ps(reinterpret_cast<__m256>(flags)));
#else
  for (std::size_t i = 0; i < kFlags; ++i) bits |= unsigned{flags[i] < 0} << i;
#endif
  return bits;
}
template <class V>
unsigned bits_of(const Halves<V>& flags) {
  return bits_of(flags.low) | bits_of(flags.high) << sizeof flags.low / sizeof flags.low[0];
}

#ifdef TOM_AVX512

template <class V>
using Wide = V;

// f of each register's share of vectors.
template <class F, class... V>
auto by_register(const F& f, const V&... v) {
  return f(v...);
}

#else

template <class V>
using Wide = Halves<V>;

template <class F, class... V>
auto by_register(const F& f, const Halves<V>&... v) {
  return Halves<decltype(f(v.low...))>{f(v.low...), f(v.high...)};
}

template <class V>
Halves<V> operator+(const Halves<V>& a, const Halves<V>& b) {
  return {a.low + b.low, a.high + b.high};
}
template <class V>
Halves<V> operator+(const Halves<V>& a, double b) {
  return {a.low + b, a.high + b};
}
template <class V>
Halves<V> operator*(const Halves<V>& a, double b) {
  return {a.low * b, a.high * b};
}
template <class V>
Halves<V> operator&(const Halves<V>& a, const Halves<V>& b) {
  return {a.low & b.low, a.high & b.high};
}
template <class V>
Halves<V> operator|(const Halves<V>& a, const Halves<V>& b) {
  return {a.low | b.low, a.high | b.high};
}

#endif

// From and to memory of any alignment that no other thread uses meanwhile. (Register by register:
// GCC copies the halves together in smaller pieces, and then waits for them to be in memory.)
template <class V, class T>
V load_vector(const T* from) {
  V v;
#ifdef TOM_AVX512
  std::memcpy(&v, from, sizeof v);
#else
  std::memcpy(&v.low, from, sizeof v.low);
  std::memcpy(&v.high, reinterpret_cast<const char*>(from) + sizeof v.low, sizeof v.high);
#endif
  return v;
}
template <class T, class V>
void store_vector(T* to, const V& v) {
#ifdef TOM_AVX512
  std::memcpy(to, &v, sizeof v);
#else
  std::memcpy(to, &v.low, sizeof v.low);
  std::memcpy(reinterpret_cast<char*>(to) + sizeof v.low, &v.high, sizeof v.high);
#endif
}

using Eight = Wide<Doubles>;
using EightWords = Wide<Words>;
using EightFlags = Wide<Flags>;
using Sixteen = Wide<HalfWords>;
using SixteenFlags = Wide<HalfFlags>;

template <class V>
bool any(const V& flags) {
  return bits_of(flags) != 0;
}
inline bool all(const EightFlags& flags) { return bits_of(flags) == 0xff; }
inline bool all(const SixteenFlags& flags) { return bits_of(flags) == 0xffff; }

}  // namespace tom::replay
