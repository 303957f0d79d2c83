// What a gradient penalty needs of tanh beyond the way back through a network: on the CPU one pass
// over the rows each, in which numbers are read and written in the types that the products have.
// Unlike on that way p is needed again, so nothing is done in place.

#include "ops/tanh_slope.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <type_traits>

#include "ops/activation_rows.h"
#include "ops/cpu_kernels.h"
#include "ops/row_blocks.h"

namespace tom {
namespace {

using at::Tensor;

constexpr int64_t kWorkPerNumber = 8;  // multiply-adds that take as long

// Rows that are contiguous, though maybe one and the same.
Tensor in_rows(const Tensor& t) { return t.stride(3) == 1 ? t : t.contiguous(); }

template <typename F>
void for_rows_of(const Tensor& t, const F& f) {
  for_rows(t.size(0) * t.size(1), t.size(2), kWorkPerNumber * t.size(3), f);
}

template <typename T>
Tensor times_kernel(const Tensor& p, const Tensor& h, const Tensor& like, at::ScalarType type,
                    const Tensor& sums) {
  const int64_t members = h.size(1), rows = h.size(2), width = h.size(3);
  const Tensor out = at::empty(h.sizes(), h.options().dtype(type));
  const int64_t units = (rows + kUnit - 1) / kUnit;
  Tensor partial;
  if (sums.defined()) partial = at::zeros({h.size(0), members, units, width}, like.options());
  T* partial_data = partial.defined() ? partial.mutable_data_ptr<T>() : nullptr;
  for_rows_of(h, [&](int64_t stack, int64_t first, int64_t count) {
    const Matrix<T> from(p, stack, members, first), values(h, stack, members, first);
    const Matrix<T> to(out, stack, members, first);
    with_data(from, [&](const auto* grad) {
      using Grad = std::remove_cvref_t<decltype(*grad)>;
      with_data(values, [&](const auto* value) {
        with_data(to, [&](auto* target) {
          for (int64_t row = 0; row < count; row += kUnit) {
            const int64_t unit = stack * units + (first + row) / kUnit;
            T* unit_sums = partial_data != nullptr ? partial_data + unit * width : nullptr;
            backward_rows<T, Tanh>(Stretch<T, Grad>{grad + row * from.row, from.row},
                                   value + row * values.row, values.row, target + row * to.row,
                                   to.row, unit_sums, std::min(kUnit, count - row), width);
          }
        });
      });
    });
  });
  if (partial.defined()) sums.add_(at::sum(partial, 2));
  return out;
}

template <typename T>
std::pair<Tensor, Tensor> back_kernel(const Tensor& g_bar, const Tensor& p, const Tensor& h,
                                      const Tensor& like, at::ScalarType type) {
  using V = Vectorized<T>;
  const int64_t members = h.size(1), width = h.size(3);
  const Tensor h_bar = at::empty(h.sizes(), like.options());
  const Tensor p_bar = at::empty(h.sizes(), h.options().dtype(type));
  for_rows_of(h, [&](int64_t stack, int64_t first, int64_t count) {
    const Matrix<T> from(g_bar, stack, members, first), factor(p, stack, members, first);
    const Matrix<T> values(h, stack, members, first), to(p_bar, stack, members, first);
    T* h_bar_rows = h_bar.mutable_data_ptr<T>() + (stack * h.size(2) + first) * width;
    with_data(from, [&](const auto* grads) {
      with_data(factor, [&](const auto* factors) {
        with_data(values, [&](const auto* value) {
          with_data(to, [&](auto* target) {
            for (int64_t row = 0; row < count; ++row) {
              for_vectors<V>(width, [&](int64_t i, int64_t n) {
                const V grad = load<T>(grads + row * from.row + i, n);
                const V p_row = load<T>(factors + row * factor.row + i, n);
                const V h_row = load<T>(value + row * values.row + i, n);
                (grad * p_row * h_row * V(-2)).store(h_bar_rows + row * width + i, n);
                store(Tanh<T>::backward(grad, h_row), target + row * to.row + i, n);
              });
            }
          });
        });
      });
    });
  });
  return {h_bar, p_bar};
}

}  // namespace

Tensor times_tanh_slope(const Tensor& p, const Tensor& h, const Tensor& like, at::ScalarType type,
                        Tensor sums) {
  const auto compute = like.scalar_type();
  if (takes_float_kernels(like)) {
    const auto kernel = compute == at::kFloat ? times_kernel<float> : times_kernel<double>;
    return kernel(in_rows(p), in_rows(h), like, type, sums);
  }
  const Tensor g = at::tanh_backward(p.to(compute), h.to(compute));
  if (sums.defined()) sums.add_(at::sum(g, 2));
  return g.to(type);
}

std::pair<Tensor, Tensor> back_through_tanh_slope(const Tensor& g_bar, const Tensor& p,
                                                  const Tensor& h, const Tensor& like,
                                                  at::ScalarType type) {
  const auto compute = like.scalar_type();
  if (takes_float_kernels(like)) {
    const auto kernel = compute == at::kFloat ? back_kernel<float> : back_kernel<double>;
    return kernel(in_rows(g_bar), in_rows(p), in_rows(h), like, type);
  }
  const Tensor grad = g_bar.to(compute), value = h.to(compute);
  return {(grad * p.to(compute)).mul_(value).mul_(-2), at::tanh_backward(grad, value).to(type)};
}

}  // namespace tom
