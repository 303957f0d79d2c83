#include "ops/mlp_rows.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "ops/activation_rows.h"
#include "ops/row_blocks.h"
#include "ops/scratch.h"

namespace tom {
namespace {

using at::Tensor;
using at::TensorList;

template <typename T, template <typename> class Act>
void forward_layer(const Matrix<T>& in, const Matrix<T>& weight, const T* bias, Matrix<T> value,
                   Matrix<T> residual, int64_t rows, int64_t depth, int64_t width) {
  multiply<T>(in, weight, rows, depth, width, [&](const T* z, int64_t column, int64_t columns) {
    with_data(value, [&](auto* values) {
      with_data(residual, [&](auto* residuals) {
        for (int64_t i = 0; i < rows; ++i) {
          forward_row<T, Act>(z + i * kPartStride, bias + column, values + i * value.row + column,
                              residuals ? residuals + i * residual.row + column : nullptr, columns);
        }
      });
    });
  });
}

template <typename T, template <typename> class Act>
void forward(const Tensor& x, TensorList weights, TensorList biases, const Hiddens* hiddens,
             const Tensor& out) {
  const int64_t members = out.size(1);
  const size_t last = weights.size() - 1;
  for_rows(out.size(0) * members, out.size(2), work_per_row(weights),
           [&](int64_t stack, int64_t first, int64_t rows) {
             const auto rows_of = [&](const Tensor& t) {
               return Matrix<T>(t, stack, members, first);
             };
             Matrix<T> in = rows_of(x);
             for (size_t l = 0; l <= last; ++l) {
               const int64_t depth = weights[l].size(2), width = weights[l].size(3);
               const Matrix<T> weight(weights[l], stack, members);
               const T* bias = biases[l].const_data_ptr<T>() + stack * width;
               const Matrix<T> none(nullptr, false, 0);
               if (l == last) {
                 forward_layer<T, Linear>(in, weight, bias, rows_of(out), none, rows, depth, width);
                 break;
               }
               const bool keep = hiddens != nullptr;
               const Matrix<T> value = keep ? rows_of(hiddens->values[l])
                                            : scratch_rows<T>(l, is_half(weights[l + 1]), width);
               const Matrix<T> residual =
                   keep && Act<T>::kSeparateResidual ? rows_of(hiddens->residuals[l]) : none;
               forward_layer<T, Act>(in, weight, bias, value, residual, rows, depth, width);
               in = value;
             }
           });
}

// Makes `tensor` one of this shape and type, or leaves it if it is.
void provide(Tensor& tensor, at::IntArrayRef sizes, at::TensorOptions options) {
  const bool fits = tensor.defined() && tensor.sizes() == sizes && tensor.is_contiguous() &&
                    tensor.scalar_type() == at::typeMetaToScalarType(options.dtype());
  if (!fits) tensor = at::empty(sizes, options);
}

// The columns of each layer's d/dz summed over each unit of rows: what the biases' gradients are
// sums of. The units of a thread are in its own cache.
template <typename T>
class ColumnSums {
 public:
  ColumnSums(TensorList weights, int64_t stacks, int64_t rows, Tensor& memory)
      : stacks_(stacks), units_((rows + kUnit - 1) / kUnit) {
    for (const Tensor& w : weights) {
      widths_.push_back(w.size(3));
      offsets_.push_back(width_);
      width_ += w.size(3);
    }
    if (stacks == 0) return;
    provide(memory, {stacks_ * units_ * width_}, at::CppTypeToScalarType<T>::value);
    sums_ = memory.mutable_data_ptr<T>();
  }

  int64_t stride() const { return width_; }  ///< from one unit to the next

  void clear(int64_t stack, int64_t row, int64_t rows) {
    std::fill_n(at(0, stack, row), (rows + kUnit - 1) / kUnit * width_, T(0));
  }

  T* at(size_t layer, int64_t stack, int64_t row) const {
    return sums_ + (stack * units_ + row / kUnit) * width_ + offsets_[layer];
  }

  /// Adds up the units into gradients [S, M, width], contiguous.
  void write(std::vector<Tensor>& bias_grads) const {
    for (size_t l = 0; l < widths_.size(); ++l) {
      T* to = bias_grads[l].mutable_data_ptr<T>();
      for (int64_t stack = 0; stack < stacks_; ++stack, to += widths_[l]) {
        std::fill_n(to, widths_[l], T(0));
        for (int64_t unit = 0; unit < units_; ++unit) {
          const T* from = at(l, stack, unit * kUnit);
          for (int64_t j = 0; j < widths_[l]; ++j) to[j] += from[j];
        }
      }
    }
  }

 private:
  const int64_t stacks_, units_;
  std::vector<int64_t> widths_, offsets_;
  int64_t width_ = 0;
  T* sums_ = nullptr;
};

template <typename T>
void add_rows(const Matrix<T>& grad, T* sums, int64_t stride, int64_t rows, int64_t width) {
  const auto block = grad.template block<T>();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) sums[i / kUnit * stride + j] += *block.at(i, j);
  }
}

// From d/dz of a layer through its weight [width, width_above] to d/dz of the layer below, whose
// columns are added to `sums`, per unit, unless it is null.
template <typename T, template <typename> class Act>
void backward_layer(const Matrix<T>& above, const Matrix<T>& weight, const Matrix<T>& residual,
                    Matrix<T> below, T* sums, int64_t sums_stride, int64_t rows,
                    int64_t width_above, int64_t width) {
  const auto pass = [&](const auto& grad_from, int64_t column, int64_t columns) {
    with_data(residual, [&](const auto* residuals) {
      with_data(below, [&](auto* out) {
        for (int64_t first = 0; first < rows; first += kUnit) {
          backward_rows<T, Act>(grad_from(first), residuals + first * residual.row + column,
                                residual.row, out + first * below.row + column, below.row,
                                sums ? sums + first / kUnit * sums_stride + column : nullptr,
                                std::min(kUnit, rows - first), columns);
        }
      });
    });
  };
  const bool are_plain = !weight.half && !above.half;
  if (width_above == 1 && weight.row == 1 && above.row == 1 && are_plain) {  // an outer product
    const auto* column = static_cast<const T*>(above.data);
    const auto* row = static_cast<const T*>(weight.data);
    return pass([&](int64_t first) { return Outer<T>{column + first, row}; }, 0, width);
  }
  multiply<T>(above, weight.transposed(), rows, width_above, width,
              [&](const T* grad, int64_t column, int64_t columns) {
                const auto from = [&](int64_t first) {
                  return Stretch<T, T>{grad + first * kPartStride, kPartStride};
                };
                pass(from, column, columns);
              });
}

template <typename T, template <typename> class Act>
void backward(const Tensor& grad_out, TensorList weights, TensorList residuals,
              InputColumns columns, std::vector<Tensor>* bias_grads, RowGradients& result) {
  const int64_t members = grad_out.size(1), rows = grad_out.size(2);
  const int64_t stacks = grad_out.size(0) * members;
  const bool keep = bias_grads != nullptr;
  ColumnSums<T> sums(weights, keep ? stacks : 0, rows, result.sums);
  for_rows(stacks, rows, work_per_row(weights), [&](int64_t stack, int64_t first, int64_t count) {
    const auto rows_of = [&](const Tensor& t) { return Matrix<T>(t, stack, members, first); };
    Matrix<T> grad = rows_of(grad_out);
    if (keep) {
      sums.clear(stack, first, count);
      add_rows(grad, sums.at(weights.size() - 1, stack, first), sums.stride(), count,
               grad_out.size(3));
    }
    for (size_t l = weights.size() - 1; l > 0; --l) {
      const int64_t width = weights[l].size(2);
      const Matrix<T> below =
          keep ? rows_of(result.layers[l - 1]) : scratch_rows<T>(l, is_half(weights[l - 1]), width);
      backward_layer<T, Act>(grad, Matrix<T>(weights[l], stack, members), rows_of(residuals[l - 1]),
                             below, keep ? sums.at(l - 1, stack, first) : nullptr, sums.stride(),
                             count, weights[l].size(3), width);
      grad = below;
    }
    if (columns.count == 0) return;
    const Matrix<T> used(weights[0], stack, members, columns.first), to = rows_of(result.x);
    multiply<T>(grad, used.transposed(), count, weights[0].size(3), columns.count,
                [&](const T* part, int64_t column, int64_t n) {
                  for (int64_t i = 0; i < count; ++i) {
                    T* row = static_cast<T*>(to.data) + i * to.row + column;
                    std::copy_n(part + i * kPartStride, n, row);
                  }
                });
  });
  if (keep) sums.write(*bias_grads);
}

template <typename F>
void dispatch(at::ScalarType type, Activation activation, F f) {
  type == at::kFloat ? with_activation<float>(activation, f)
                     : with_activation<double>(activation, f);
}

}  // namespace

bool has_row_passes(const Tensor& x, TensorList weights) {
  const auto is_taken = [&](const Tensor& w) {
    const bool between = &w != &weights.front() && &w != &weights.back();
    return w.scalar_type() == x.scalar_type() || (between && is_half(w) && has_blocked_product(w));
  };
  return has_blocked_product(x) && !is_half(x) && x.size(3) > 0 &&
         std::all_of(weights.begin(), weights.end(), is_taken);
}

Tensor forward_by_rows(const Tensor& x, TensorList weights, TensorList biases,
                       Activation activation, Hiddens* hiddens) {
  const int64_t seeds = x.size(0), members = weights[0].size(1), rows = x.size(2);
  const size_t layers = weights.size();
  if (hiddens != nullptr) {
    hiddens->values.resize(layers - 1);
    hiddens->residuals.resize(layers - 1);
  }
  for (size_t l = 0; hiddens != nullptr && l + 1 < layers; ++l) {
    const std::vector<int64_t> sizes{seeds, members, rows, weights[l].size(3)};
    Tensor &value = hiddens->values[l], &residual = hiddens->residuals[l];
    provide(value, sizes, weights[l + 1].options());
    const bool separate = activation == Activation::silu;
    separate ? provide(residual, sizes, weights[l].options()) : void(residual = value);
  }
  std::vector<Tensor> rows_of_biases;
  for (const Tensor& bias : biases) rows_of_biases.push_back(bias.contiguous());
  const Tensor out = at::empty({seeds, members, rows, weights.back().size(3)}, x.options());
  dispatch(x.scalar_type(), activation, [&]<typename T, template <typename> class Act>() {
    forward<T, Act>(x, weights, rows_of_biases, hiddens, out);
  });
  return out;
}

void backward_by_rows(const Tensor& grad_out, TensorList weights, TensorList residuals,
                      Activation activation, InputColumns columns, std::vector<Tensor>* bias_grads,
                      RowGradients& result) {
  const Tensor grad = grad_out.contiguous();
  const auto sizes = [&](int64_t width) {
    return std::vector<int64_t>{grad.size(0), grad.size(1), grad.size(2), width};
  };
  if (bias_grads != nullptr) {
    result.layers.resize(weights.size());
    result.layers.back() = grad;
  }
  for (size_t l = 0; bias_grads != nullptr && l + 1 < weights.size(); ++l) {
    provide(result.layers[l], sizes(weights[l].size(3)), weights[l].options());
  }
  if (columns.count > 0) result.x = at::empty(sizes(columns.count), grad.options());
  dispatch(grad.scalar_type(), activation, [&]<typename T, template <typename> class Act>() {
    backward<T, Act>(grad, weights, residuals, columns, bias_grads, result);
  });
}

}  // namespace tom
