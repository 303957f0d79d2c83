#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace tom {

enum class Activation { relu, tanh, silu };

/// Raises ValueError for an unknown name.
Activation activation_from(std::string_view name);

/// A hidden layer after its matrix product, and what the way back needs of it.
struct Hidden {
  at::Tensor value;     ///< act(z + bias)
  at::Tensor residual;  ///< for activate_backward; undefined unless it was asked for
};

/// act(z + bias) in the type that the next product reads, where z [S, M, B, O] is the caller's own
/// product and is overwritten, and bias is [S, M, O].
///
/// Beside a float32 bias z and the value may be bfloat16: they are widened when they are read, and
/// the value is rounded once, when it is stored.
Hidden activate(at::Tensor z, const at::Tensor& bias, Activation activation, bool save,
                at::ScalarType value_type);

/// From the gradient in the next layer's product, [S, M, B, O'], through that layer's weight
/// [S, M, O, O'] to d/d value, then to d/dz [S, M, B, O] in the type `grad_type`: `grad` becomes
/// it, overwritten where it can be. The bias's gradient goes to `bias_grad` [S, M, O] unless that
/// is undefined.
///
/// `type` is the type of the bias of `activate`: what is computed in. The sum over B is taken in
/// blocks of rows whose size does not depend on the number of threads.
void activate_backward(at::Tensor& grad, const at::Tensor& weight, const at::Tensor& residual,
                       Activation activation, at::Tensor bias_grad, at::ScalarType type,
                       at::ScalarType grad_type);

}  // namespace tom
