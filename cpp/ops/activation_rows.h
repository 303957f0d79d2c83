// The activations, and their passes over rows: one each way.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/activations.h"
#include "ops/vectorized.h"

namespace tom {

using at::vec::Vectorized;

// residual() is what the way back multiplies by or decides on. For ReLU and tanh the value itself
// says it; for SiLU the slope is stored, since the sigmoid is at hand and costs an exponential
// later.
template <typename T>
struct Linear {
  using V = Vectorized<T>;
  static constexpr bool kSeparateResidual = false;
  static V forward(V z, V*) { return z; }
};

template <typename T>
struct Relu {
  using V = Vectorized<T>;
  static constexpr bool kSeparateResidual = false;
  // Keeps NaN, as torch.relu does.
  static V forward(V z, V*) { return at::vec::maximum(z, V(0)); }
  static V backward(V grad, V value) { return V::blendv(grad, V(0), value <= V(0)); }
};

template <typename T>
struct Tanh {
  using V = Vectorized<T>;
  static constexpr bool kSeparateResidual = false;
  static V forward(V z, V*) { return fast_tanh(z); }
  static V backward(V grad, V value) { return grad * (V(1) - value * value); }
};

template <typename T>
struct Silu {
  using V = Vectorized<T>;
  static constexpr bool kSeparateResidual = true;
  static V forward(V z, V* slope) {
    const V sigmoid = V(1) / (V(1) + fast_exp(z.neg()));
    const V value = z * sigmoid;
    *slope = sigmoid + value * (V(1) - sigmoid);
    return value;
  }
  static V backward(V grad, V slope) { return grad * slope; }
};

// `value`, which may be z itself, takes act(z + bias); `residual`, which may be z too, takes what
// Act keeps separately unless it is null.
template <typename T, template <typename> class Act, typename Z, typename Value, typename Residual>
void forward_row(const Z* z, const T* bias, Value* value, Residual* residual, int64_t width) {
  using V = Vectorized<T>;
  const auto step = [&](int64_t i, int64_t n) {
    V kept(0);
    const V sum = load<T>(z + i, n) + V::loadu(bias + i, n);
    const V result = Act<T>::forward(sum, &kept);
    if (Act<T>::kSeparateResidual && residual != nullptr) store(kept, residual + i, n);
    store(result, value + i, n);
  };
  for_vectors<V>(width, step);
}

// A gradient in memory, or the product of a column [rows] and a row [width].
template <typename T, typename Stored>
struct Stretch {
  const Stored* grad;
  int64_t stride;
  Vectorized<T> at(int64_t row, int64_t i, int64_t n) const {
    return load<T>(grad + row * stride + i, n);
  }
};

template <typename T>
struct Outer {
  const T *column, *row;
  Vectorized<T> at(int64_t r, int64_t i, int64_t n) const {
    return Vectorized<T>(column[r]) * Vectorized<T>::loadu(row + i, n);
  }
};

// `out`, which may be grad itself, takes its product with the activation's slope, whose column sums
// are added to `sums` unless that is null.
template <typename T, template <typename> class Act, typename Grad, typename Residual, typename Out>
void backward_rows(const Grad& grad, const Residual* residual, int64_t residual_stride, Out* out,
                   int64_t out_stride, T* sums, int64_t rows, int64_t width) {
  using V = Vectorized<T>;
  for (int64_t row = 0; row < rows; ++row) {
    const Residual* residual_row = residual + row * residual_stride;
    Out* out_row = out + row * out_stride;
    const auto step = [&](int64_t i, int64_t n) {
      const V result = Act<T>::backward(grad.at(row, i, n), load<T>(residual_row + i, n));
      store(result, out_row + i, n);
      if (sums != nullptr) (V::loadu(sums + i, n) + result).store(sums + i, n);
    };
    for_vectors<V>(width, step);
  }
}

// Calls f.template operator()<T, Act>() for the run-time pair.
template <typename T, typename F>
auto with_activation(Activation activation, F f) {
  switch (activation) {
    case Activation::relu:
      return f.template operator()<T, Relu>();
    case Activation::tanh:
      return f.template operator()<T, Tanh>();
    default:
      return f.template operator()<T, Silu>();
  }
}

}  // namespace tom
