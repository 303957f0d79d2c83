// Blocks of rows of a stack's matrices: who takes which, and in what types they are.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <utility>

#include "ops/factors.h"
#include "ops/scratch.h"

namespace tom {

using Half = at::BFloat16;

// A thread has whole units of rows, and sums over rows are made unit by unit.
constexpr int64_t kUnit = 32;

inline bool is_half(const at::Tensor& t) { return t.scalar_type() == at::kBFloat16; }

// A matrix of T in other memory, or of bfloat16 beside float32.
template <typename T>
struct Matrix {
  void* data = nullptr;
  bool half = false;
  int64_t row = 0, column = 1;

  Matrix(void* memory, bool is_half, int64_t width) : data(memory), half(is_half), row(width) {}

  // The one of stack (s, m) in t [S, M or 1, rows, columns], from a row and a column on.
  Matrix(const at::Tensor& t, int64_t stack, int64_t members, int64_t first_row = 0,
         int64_t first_column = 0)
      : half(is_half(t)), row(t.stride(2)), column(t.stride(3)) {
    const int64_t m = t.size(1) == 1 ? 0 : stack % members;
    const int64_t at =
        stack / members * t.stride(0) + m * t.stride(1) + first_row * row + first_column * column;
    data = static_cast<char*>(const_cast<void*>(t.const_data_ptr())) + at * t.element_size();
  }

  Matrix transposed() const {
    Matrix result = *this;
    std::swap(result.row, result.column);
    return result;
  }

  template <typename U>
  Block<const U> block() const {
    return {static_cast<const U*>(data), row, column};
  }
};

// Calls f with the pointer to the numbers, of their type.
template <typename T, typename F>
void with_data(const Matrix<T>& matrix, F f) {
  if constexpr (std::is_same_v<T, float>) {
    if (matrix.half) return f(static_cast<Half*>(matrix.data));
  }
  f(static_cast<T*>(matrix.data));
}

template <typename T>
void multiply(const Matrix<T>& a, const Matrix<T>& b, int64_t m, int64_t k, int64_t n,
              TakePart<T> take) {
#ifdef TOM_BFLOAT16_FACTORS
  if constexpr (std::is_same_v<T, float>) {
    if (b.half) {
      return block_product<Half>(a.template block<Half>(), b.template block<Half>(), m, k, n, take);
    }
  }
#endif
  block_product<T>(a.template block<T>(), b.template block<T>(), m, k, n, take);
}

// Two layers' worth of memory, the one that is read and the one that is written.
template <typename T>
Matrix<T> scratch_rows(size_t layer, bool half, int64_t width) {
  thread_local std::array<Scratch<T>, 2> memory;
  return {memory[layer % 2].of(kRowsAtOnce * width), half, width};
}

// Calls f(stack, first row, count) for blocks of rows, those of one thread behind each other.
template <typename F>
void for_rows(int64_t stacks, int64_t rows, int64_t work_per_row, F f) {
  const int64_t units = (rows + kUnit - 1) / kUnit;
  const int64_t grain = kParallelWork / std::max<int64_t>(1, kUnit * work_per_row);
  const auto run = [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t stack = begin / units, first = begin % units * kUnit;
      const int64_t last = std::min({end, (stack + 1) * units, begin + kRowsAtOnce / kUnit});
      f(stack, first, std::min(rows - first, (last - begin) * kUnit));
      begin = last;
    }
  };
  at::parallel_for(0, stacks * units, std::max<int64_t>(1, grain), run);
}

inline int64_t work_per_row(at::TensorList weights) {
  int64_t work = 0;
  for (const at::Tensor& w : weights) work += w.size(2) * w.size(3);
  return work;
}

}  // namespace tom
