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

/// Calls step(i, count) for the whole vectors of [0, n), and once more for what is left. Always
/// inlined, the steps too: as calls, for rows as short as a layer's, they took an eighth of an
/// ensemble's step.
template <typename V, typename Step>
[[gnu::always_inline, gnu::flatten]] inline void for_vectors(int64_t n, const Step& step) {
  int64_t i = 0;
  for (; i + V::size() <= n; i += V::size()) step(i, V::size());
  if (i < n) step(i, n - i);
}

/// The first n numbers of a vector of T from memory of the same type, or of bfloat16 for float32.
template <typename T, typename Stored>
at::vec::Vectorized<T> load(const Stored* from, int64_t n) {
  if constexpr (std::is_same_v<T, Stored>) {
    return at::vec::Vectorized<T>::loadu(from, n);
  } else {
#ifdef CPU_CAPABILITY_AVX512
    static_assert(std::is_same_v<Stored, at::BFloat16>);
    const auto half = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
#else
    const auto half = at::vec::Vectorized<Stored>::loadu(from, n);
    return std::get<0>(at::vec::convert_to_float<Stored>(half));
#endif
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

/// e^x: for float32 to 2 units in the last place with AVX-512 and to 20 elsewhere, as in ATen's own
/// sigmoid; for float64 to 1.
template <typename V>
V fast_exp(V x) {
#ifdef CPU_CAPABILITY_AVX512
  if constexpr (std::is_same_v<V, at::vec::Vectorized<float>>) {
    // x = n log 2 + r with |r| <= log(2) / 2, and a polynomial for e^r (Cephes, expf). The limits
    // are where the result is infinite or zero; they let a NaN pass.
    constexpr float kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;
    x = at::vec::clamp(x, V(-104), V(89));
    const V n = _mm512_roundscale_ps(x * V(1.44269504f), _MM_FROUND_TO_NEAREST_INT);
    const V r = at::vec::fmadd(n, V(-kLog2Low), at::vec::fmadd(n, V(-kLog2High), x));
    V p(1.9875691500e-4f);
    for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                          5.0000001201e-1f, 1.0f, 1.0f}) {
      p = at::vec::fmadd(p, r, V(c));
    }
    return _mm512_scalef_ps(p, n);
  }
#endif
  return x.exp_u20();
}

/// log(y) for normal, finite y > 0: for float32 to 2 units in the last place, or 1e-7 near y = 1.
template <typename V>
V fast_log(V y) {
#ifdef CPU_CAPABILITY_AVX512
  if constexpr (std::is_same_v<V, at::vec::Vectorized<float>>) {
    // y = 2^n (1 + f) with -1/4 <= f < 1/2, and log(1 + f) = f - f^2 / 2 + f^3 P(f), P fitted to a
    // relative error of 5e-9. Inlined, unlike ATen's logarithm, which is a library call.
    const V mantissa = _mm512_getmant_ps(y, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    const V n = V(_mm512_getexp_ps(y)) - V(_mm512_getexp_ps(mantissa));
    const V f = mantissa - V(1);
    V p(-0.04615755f);
    for (const float c : {0.10581838f, -0.13186833f, 0.14467845f, -0.16643761f, 0.19991082f,
                          -0.25000194f, 0.33333447f, -0.5f, 1.0f}) {
      p = at::vec::fmadd(p, f, V(c));
    }
    return at::vec::fmadd(n, V(0.693147181f), p * f);
  }
#endif
  return y.log();
}

/// tanh x: for float32 to 2 units in the last place, never above 1; keeps NaN. Inlined, unlike
/// ATen's, which is a library call and takes four times as long.
template <typename V>
V fast_tanh(V x) {
  if constexpr (sizeof(typename V::value_type) == 8) {
    return x.tanh();
  } else {
    const V size = x.abs(), square = x * x;
    const V large = V(1) - V(2) / (V(1) + fast_exp(size + size));
    // Near 0 that difference loses digits: x + x^3 P(x^2), P fitted to a relative error of 4e-9.
    V p(-0.005704987f);
    for (const float c : {0.020639087f, -0.053739715f, 0.13331442f, -0.33333282f}) {
      p = at::vec::fmadd(p, square, V(c));
    }
    const V small = at::vec::fmadd(x * square, p, x);
    const V with_sign = V::blendv(large, large.neg(), x < V(0));
    return V::blendv(small, with_sign, size > V(0.625f));
  }
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
