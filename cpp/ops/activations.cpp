// Elementwise passes between the matrix products: on the CPU one pass each way, in place, which
// adds the bias (or sums its gradient) while the row is in a register anyway.

#include "ops/activations.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "ops/activation_rows.h"
#include "ops/cpu_kernels.h"
#include "ops/products.h"

namespace tom {
namespace {

constexpr int64_t kRowBlock = 128;              // rows per partial sum of a bias gradient
constexpr int64_t kParallelElements = 1 << 13;  // elements worth waking another thread for

// Calls f.template operator()<Stored>() for the type of t: T, or bfloat16 beside float32.
template <typename T, typename F>
void with_stored(const at::Tensor& t, F f) {
  if constexpr (std::is_same_v<T, float>) {
    if (t.scalar_type() == at::kBFloat16) return f.template operator()<at::BFloat16>();
  }
  f.template operator()<T>();
}

template <typename T, template <typename> class Act>
Hidden forward_cpu(const at::Tensor& z, const at::Tensor& bias, bool save,
                   at::ScalarType value_type) {
  const int64_t rows = z.size(2), width = z.size(3);
  const bool separate = save && Act<T>::kSeparateResidual;
  const bool in_place = !separate && z.scalar_type() == value_type;
  const at::Tensor value = in_place ? z : at::empty_like(z, value_type);
  const T* bias_data = bias.const_data_ptr<T>();
  const int64_t grain = std::max<int64_t>(1, kParallelElements / std::max<int64_t>(1, width));
  with_stored<T>(z, [&]<typename Z>() {
    with_stored<T>(value, [&]<typename Value>() {
      Z* z_data = z.mutable_data_ptr<Z>();
      Value* value_data = value.mutable_data_ptr<Value>();
      at::parallel_for(0, z.size(0) * z.size(1) * rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          Z* z_row = z_data + row * width;
          forward_row<T, Act>(z_row, bias_data + row / rows * width, value_data + row * width,
                              separate ? z_row : nullptr, width);
        }
      });
    });
  });
  return {value, save ? (separate ? z : value) : at::Tensor()};
}

template <typename T, template <typename> class Act>
void backward_cpu(at::Tensor& grad, const at::Tensor& row_factor, const at::Tensor& residual,
                  at::Tensor bias_grad, at::ScalarType grad_type) {
  const bool need_bias = bias_grad.defined(), outer = row_factor.defined();
  const int64_t stacks = grad.size(0) * grad.size(1), rows = grad.size(2);
  const int64_t width = residual.size(3);
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  at::Tensor sums;
  if (need_bias) {
    sums = at::zeros({grad.size(0), grad.size(1), std::max<int64_t>(1, blocks), width},
                     bias_grad.options());
  }
  const at::Tensor out =
      !outer && grad.scalar_type() == grad_type ? grad : at::empty_like(residual, grad_type);
  T* sums_data = need_bias ? sums.mutable_data_ptr<T>() : nullptr;
  const int64_t grain =
      std::max<int64_t>(1, kParallelElements / std::max<int64_t>(1, kRowBlock * width));
  const auto run = [&](const auto& grad_of, const auto* residual_data, auto* out_data) {
    at::parallel_for(0, stacks * blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t first = task / blocks * rows + task % blocks * kRowBlock;
        const int64_t count = std::min(kRowBlock, (task / blocks + 1) * rows - first);
        T* task_sums = need_bias ? sums_data + task * width : nullptr;
        backward_rows<T, Act>(grad_of(task / blocks, first), residual_data + first * width, width,
                              out_data + first * width, width, task_sums, count, width);
      }
    });
  };
  with_stored<T>(residual, [&]<typename Residual>() {
    with_stored<T>(out, [&]<typename Out>() {
      const Residual* residual_data = residual.const_data_ptr<Residual>();
      Out* out_data = out.mutable_data_ptr<Out>();
      if (outer) {
        const T *column = grad.const_data_ptr<T>(), *row = row_factor.const_data_ptr<T>();
        run([&](int64_t stack,
                int64_t first) { return Outer<T>{column + first, row + stack * width}; },
            residual_data, out_data);
        return;
      }
      with_stored<T>(grad, [&]<typename Grad>() {
        const Grad* grad_data = grad.const_data_ptr<Grad>();
        run([&](int64_t,
                int64_t first) { return Stretch<T, Grad>{grad_data + first * width, width}; },
            residual_data, out_data);
      });
    });
  });
  if (need_bias) at::sum_out(bias_grad, sums, 2);
  grad = out;
}

bool takes_kernels(const at::Tensor& t, at::ScalarType type) {
  return takes_cpu_kernels(t) && (type == at::kFloat || type == at::kDouble);
}

template <typename F>
auto with_kernel(at::ScalarType type, Activation activation, F f) {
  return type == at::kFloat ? with_activation<float>(activation, f)
                            : with_activation<double>(activation, f);
}

}  // namespace

Activation activation_from(std::string_view name) {
  if (name == "relu") return Activation::relu;
  if (name == "tanh") return Activation::tanh;
  TORCH_CHECK_VALUE(name == "silu", "stacked_mlp: activation '", name,
                    "' is unknown; use 'relu', 'tanh' or 'silu'.");
  return Activation::silu;
}

Hidden activate(at::Tensor z, const at::Tensor& bias, Activation activation, bool save,
                at::ScalarType value_type) {
  z = z.contiguous();
  if (takes_kernels(z, bias.scalar_type())) {
    return with_kernel(bias.scalar_type(), activation,
                       [&]<typename T, template <typename> class Act>() {
                         return forward_cpu<T, Act>(z, bias.contiguous(), save, value_type);
                       });
  }
  const auto product_type = z.scalar_type();
  z = z.to(bias.scalar_type()).add_(bias.unsqueeze(2));
  if (activation == Activation::silu) {
    return {at::silu(z).to(value_type), save ? z.to(product_type) : at::Tensor()};
  }
  activation == Activation::relu ? z.relu_() : z.tanh_();
  z = z.to(value_type);
  return {z, save ? z : at::Tensor()};
}

void activate_backward(at::Tensor& grad, const at::Tensor& weight, const at::Tensor& residual,
                       Activation activation, at::Tensor bias_grad, at::ScalarType type,
                       at::ScalarType grad_type) {
  const bool outer = weight.size(3) == 1 && takes_kernels(grad, type) &&
                     grad.scalar_type() == type && weight.scalar_type() == type;
  if (!outer) grad = member_product(grad, weight.transpose(2, 3));
  grad = grad.contiguous();
  if (takes_kernels(grad, type)) {
    with_kernel(type, activation, [&]<typename T, template <typename> class Act>() {
      backward_cpu<T, Act>(grad, outer ? weight.contiguous() : at::Tensor(), residual.contiguous(),
                           bias_grad, grad_type);
    });
    return;
  }
  grad = grad.to(type);
  switch (activation) {
    case Activation::relu:
      grad = at::threshold_backward(grad, residual.to(type), 0);
      break;
    case Activation::tanh:
      grad = at::tanh_backward(grad, residual.to(type));
      break;
    case Activation::silu:
      grad = at::silu_backward(grad, residual.to(type));
      break;
  }
  if (bias_grad.defined()) at::sum_out(bias_grad, grad, 2);
  grad = grad.to(grad_type);
}

}  // namespace tom
