#pragma once

// ATen's portable vectors at the width of the processor the library is compiled for.
//
// ATen compiles its own kernels once per instruction set and tells its headers which one by these
// macros; a library outside ATen is compiled once, so the compiler's own macros decide. The
// namespace inside at::vec carries the name, so nothing here collides with ATen's own instances.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CPU_CAPABILITY AVX512
#define CPU_CAPABILITY_AVX512
#elif defined(__AVX2__) && defined(__FMA__)
#define CPU_CAPABILITY AVX2
#define CPU_CAPABILITY_AVX2
#else
#define CPU_CAPABILITY DEFAULT
#endif

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <type_traits>

namespace tom {

/// The first n numbers of a vector of T from memory of the same type, or of bfloat16 for float32.
template <typename T, typename Stored>
at::vec::Vectorized<T> load(const Stored* from, int64_t n) {
  if constexpr (std::is_same_v<T, Stored>) {
    return at::vec::Vectorized<T>::loadu(from, n);
  } else {
    const auto half = at::vec::Vectorized<Stored>::loadu(from, n);
    return std::get<0>(at::vec::convert_to_float<Stored>(half));
  }
}

/// The way back; to bfloat16 it rounds to nearest, ties to even.
template <typename T, typename Stored>
void store(at::vec::Vectorized<T> values, Stored* to, int64_t n) {
  if constexpr (std::is_same_v<T, Stored>) {
    values.store(to, n);
  } else {
#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
    const auto rounded = _mm512_cvtneps_pbh(values);
    _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << n) - 1), (__m256i)rounded);
#else
    at::vec::convert_from_float<Stored>(values, at::vec::Vectorized<T>(0)).store(to, n);
#endif
  }
}

/// e^x: to 20 units in the last place for float32, as in ATen's own sigmoid; to 1 for float64.
template <typename V>
V fast_exp(V x) {
  return x.exp_u20();
}

/// log(1 + t) for t in [0, 1], given s = t / (2 + t).
template <typename V>
V log1p_unit(V t, V s) {
  if constexpr (sizeof(typename V::value_type) == 8) {
    return t.log1p();
  } else {
    // log(1 + t) = 2 artanh(s) with s <= 1/3; the first term left out is s^17 / 17,
    // below half a unit in the last place. Inlined, unlike ATen's log1p, which is a library call.
    const V s2 = s * s;
    V series(1.0f / 15);
    for (const float term : {1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3, 1.0f}) {
      series = at::vec::fmadd(series, s2, V(term));
    }
    return (s + s) * series;
  }
}

}  // namespace tom
