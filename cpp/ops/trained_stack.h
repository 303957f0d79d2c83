#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "ops/adam.h"
#include "ops/mlp.h"
#include "ops/precision.h"

namespace tom {

/// The layers of S x M networks as views into a vector that holds, layer by layer, the weights
/// [S, M, in, out] and the biases [S, M, out], as `tom.networks.StackedMLP` lays them out.
Layers layers_in(const at::Tensor& flat, int64_t seeds, int64_t members, at::IntArrayRef sizes);

/// Raises ValueError, which calls the tensor `name`, unless it has the type and device of the
/// parameters of `state` and requires no gradients.
void check_alike(const at::Tensor& t, at::TensorList state, const char* name);

/// Networks that follow others of their shape: each step moves them a share `rate` of the way.
class Followers {
 public:
  /// `flat` holds the layers alone, as `layers_in` makes them.
  Followers(const at::Tensor& flat, int64_t seeds, int64_t members, at::IntArrayRef sizes,
            double rate, Precision precision);

  /// Moves the parameters [begin, end) towards those of `leader`, on the calling thread alone where
  /// that is the CPU.
  void follow(const at::Tensor& leader, int64_t begin, int64_t end);

  const Layers& layers() const { return layers_; }
  const std::vector<at::Tensor>& product_weights() const { return product_weights_.weights(); }

 private:
  at::Tensor flat_;
  double rate_;
  Layers layers_;
  ProductWeights product_weights_;
};

/// A stack of S x M networks with its optimiser. All parameters are one vector: the layers, and
/// behind them whatever else is trained.
class TrainedStack {
 public:
  /// `state` is [flat, gradient, exp_avg, exp_avg_sq, step]: four vectors of one length and Adam's
  /// counter, a float32 scalar. All five are updated in place. Raises ValueError unless the vectors
  /// are alike and hold the layers of these sizes and `extras` numbers behind them.
  TrainedStack(at::TensorList state, const char* name, int64_t seeds, int64_t members,
               at::IntArrayRef sizes, Activation activation, Precision precision,
               int64_t extras = 0);

  /// Outputs [S, M, B, O] of x [S, M or 1, B, I], remembered for the way back.
  at::Tensor forward(const at::Tensor& x);

  /// Forgets all but the first rows of the last pass: the way back concerns only these.
  void keep_rows(int64_t rows);

  /// From d/d output to the gradient vector; what lies behind the layers is not touched.
  void backward(const at::Tensor& grad_out);

  /// From d/d output to the gradient in some columns of the last x; the parameters have none.
  at::Tensor backward_to_input(const at::Tensor& grad_out, InputColumns columns);

  /// One Adam step along the gradient vector, and one of the networks that follow these, if any.
  void step(const AdamSettings& settings, Followers* followers = nullptr);

  /// Views into the flat vector and into the gradient, of `shape` = [S, M, ...], at an offset from
  /// the end of the layers.
  at::Tensor extra(int64_t offset, at::IntArrayRef shape) const;
  at::Tensor extra_gradient(int64_t offset, at::IntArrayRef shape) const;

  const at::Tensor& flat() const { return state_.flat; }
  const Layers& layers() const { return layers_; }
  const std::vector<at::Tensor>& product_weights() const { return product_weights_->weights(); }
  Layers& gradients() { return gradients_; }
  const Hiddens& hiddens() const { return hiddens_; }  ///< of the last pass

 private:
  AdamState state_;
  Layers layers_, gradients_;
  std::optional<ProductWeights> product_weights_;
  Activation activation_;
  int64_t layers_end_ = 0;
  at::Tensor x_;
  Hiddens memory_, hiddens_;  ///< of the last pass, and the rows of it that are kept
  RowGradients row_gradients_;
};

}  // namespace tom
