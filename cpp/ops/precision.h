#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

#include "ops/mlp.h"

namespace tom {

/// What the matrix products between hidden layers are computed in; sums are always float32.
///
/// With bf16 the first layer, which reads the data, and the last, whose output is the result, stay
/// in the parameters' own type: they are narrow, so that little time is theirs, and neither
/// observations nor values are rounded. tf32 is a GPU's: its matrix units read the float32 factors
/// of every layer's products as TF32, if torch is set to it. Here it is as fp32.
enum class Precision { fp32, tf32, bf16 };

/// Raises ValueError for an unknown name.
Precision precision_from(std::string_view name);

/// The weights that the products of a stack read: the parameters themselves, or rounded copies.
class ProductWeights {
 public:
  /// `layers` are views into `flat`, as `layers_in` makes them. Raises ValueError if the parameters
  /// to be rounded are not float32, or the processor lacks the kernels' instructions for it.
  ProductWeights(const at::Tensor& flat, const Layers& layers, Precision precision);

  /// Rounds again those of the parameters [begin, end) of `flat` that are rounded, after they have
  /// changed; on the CPU on the calling thread alone.
  void refresh(int64_t begin, int64_t end);

  const std::vector<at::Tensor>& weights() const { return weights_; }

 private:
  at::Tensor wide_, rounded_;  ///< the stretch of `flat` with the rounded weights, and its copy
  int64_t begin_ = 0;          ///< where in `flat` it begins
  std::vector<at::Tensor> weights_;
};

}  // namespace tom
