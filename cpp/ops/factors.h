#pragma once

// How blocked products read their factors, by the type of these: as what words, in what vectors.

#include <algorithm>
#include <array>
#include <cstring>

#include "ops/blocked_product.h"
#include "ops/scratch.h"
#include "ops/vectorized.h"

namespace tom {

/// to [columns, width] takes from [rows, columns] turned over, whose rows are `stride` apart.
inline void transpose(const float* from, int64_t stride, float* to, int64_t width, int64_t rows,
                      int64_t columns) {
#ifdef CPU_CAPABILITY_AVX2
  constexpr int64_t kSide = 8;  // of what ATen turns over in registers; the rest it does one by one
  const int64_t whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
  for (int64_t i = 0; i < whole_rows; i += kSide) {
    for (int64_t j = 0; j < whole_columns; j += kSide) {
      at::vec::transpose_mxn<float, kSide, kSide>(from + i * stride + j, stride, to + j * width + i,
                                                  width);
    }
  }
  at::vec::transpose_mxn<float>(from + whole_columns, stride, to + whole_columns * width, width,
                                whole_rows, columns - whole_columns);
  from += whole_rows * stride, to += whole_rows, rows -= whole_rows;
#endif
  at::vec::transpose_mxn<float>(from, stride, to, width, rows, columns);
}

/// float32 and float64: a word is one number, and a multiply-add takes one step in k.
template <typename T>
struct Factor {
  using Sum = T;   ///< what products are summed in
  using Word = T;  ///< what is broadcast from a and packed from b
  using Words = at::vec::Vectorized<T>;
  static constexpr int64_t kFold = 1;      ///< numbers per word, neighbours in k
  static constexpr bool kRounded = false;  ///< whether a product is rounded once it is summed

  static Words load(const Word* from) { return Words::loadu(from); }
  static Words broadcast(const Word* from) { return Words(*from); }
  static Words multiply_add(Words a, Words b, Words sum) { return at::vec::fmadd(a, b, sum); }

  /// Columns [0, n) of b [k, ...] as rows of `width` words, zeros behind n.
  static void pack(Block<const T> b, int64_t k, int64_t n, Word* to, int64_t width) {
    if (b.column == 1) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < width; j += Words::size()) {
          const int64_t count = std::clamp<int64_t>(n - j, 0, Words::size());
          Words::loadu(b.at(i, j), count).store(to + i * width + j);
        }
      }
      return;
    }
    if (n < width) std::fill_n(to, k * width, T(0));
    if constexpr (std::is_same_v<T, float>) {
      if (b.row == 1) return transpose(b.data, b.column, to, width, n, k);
    }
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < k; ++i) to[i * width + j] = *b.at(i, j);
    }
  }

  /// a [m, k] as words [m, k / kFold].
  static Block<const Word> words(Block<const T> a, int64_t /*m*/, int64_t /*k*/) { return a; }
};

#if defined(CPU_CAPABILITY_AVX512) && defined(__AVX512BF16__)
#define TOM_BFLOAT16_FACTORS

/// bfloat16: a word is a pair, which one instruction multiplies and adds to a float32 sum.
template <>
struct Factor<at::BFloat16> {
  using Sum = float;
  using Word = std::array<at::BFloat16, 2>;
  using Words = __m512i;
  static constexpr int64_t kFold = 2;
  static constexpr bool kRounded = true;

  static Words load(const Word* from) { return _mm512_loadu_si512(from); }
  static Words broadcast(const Word* from) {
    int32_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  static at::vec::Vectorized<float> multiply_add(Words a, Words b, at::vec::Vectorized<float> sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }

  /// To the nearest bfloat16, ties to even.
  static at::vec::Vectorized<float> rounded(at::vec::Vectorized<float> x) {
    const __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }

  static void pack(Block<const at::BFloat16> b, int64_t k, int64_t n, Word* to, int64_t width) {
    if (b.column == 1) {
      for (int64_t i = 0; i < k; i += kFold, to += width) {
        for (int64_t j = 0; j < width; j += 16) {
          const int64_t count = std::clamp<int64_t>(n - j, 0, 16);
          const auto row = [&](int64_t row, int64_t count) {
            const auto mask = static_cast<__mmask16>((1u << count) - 1);
            return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, b.at(row, j)));
          };
          const __m512i high = row(i + 1, i + 1 < k ? count : 0);
          _mm512_storeu_si512(to + j, _mm512_or_si512(row(i, count), _mm512_slli_epi32(high, 16)));
        }
      }
      return;
    }
    const int64_t pairs = (k + 1) / kFold;
    if (n < width || k % kFold != 0) std::fill_n(to, pairs * width, Word{});
    if (b.row == 1 && b.column % kFold == 0 && k % kFold == 0) {  // as so many words of 32 bits
      const auto* from = reinterpret_cast<const float*>(b.data);
      at::vec::transpose_mxn<float>(from, b.column / kFold, reinterpret_cast<float*>(to), width, n,
                                    pairs);
      return;
    }
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < k; ++i) to[i / kFold * width + j][i % kFold] = *b.at(i, j);
    }
  }

  /// Valid until the next call on this thread.
  static Block<const Word> words(Block<const at::BFloat16> a, int64_t m, int64_t k) {
    if (a.column == 1 && a.row % kFold == 0 && k % kFold == 0) {
      return {reinterpret_cast<const Word*>(a.data), a.row / kFold, 1};
    }
    thread_local Scratch<Word> memory;
    const int64_t width = (m + 15) / 16 * 16;
    Word* packed = memory.of((k + 1) / kFold * width);
    pack({a.data, a.column, a.row}, k, m, packed, width);
    return {packed, 1, width};
  }
};

#endif

}  // namespace tom
