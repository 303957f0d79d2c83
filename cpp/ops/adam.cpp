#include "ops/adam.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "ops/cpu_kernels.h"
#include "ops/vectorized.h"

namespace tom {
namespace {

using Follow = c10::function_ref<void(int64_t, int64_t)>;

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;
constexpr int64_t kStretch = 1 << 10;       // numbers: five such vectors stay in the first level
constexpr int64_t kParallelStretches = 16;  // worth waking another thread for

// torch's CUDA kernel takes up to 36 tensors at once, and sets one of the GPU's multiprocessors to
// work on every 65 536 numbers of a tensor. As one tensor the parameters of a policy are thus
// updated by two of more than a hundred, in 26 us on an H200; in many pieces it is 5 us. It reads
// four numbers at a time where a piece begins at a multiple of 16 bytes and has so many.
constexpr int64_t kPieces = 36, kWholePiece = 1 << 16, kPieceAlign = 64;

template <typename T>
void kernel(const AdamState& state, const AdamSettings& settings, Follow follow) {
  using V = at::vec::Vectorized<T>;
  const double step = *state.step.mutable_data_ptr<float>() += 1;
  const V rate(static_cast<T>(settings.learning_rate / (1 - std::pow(kBeta1, step))));
  const V root(static_cast<T>(1 / std::sqrt(1 - std::pow(kBeta2, step))));
  const V decay(static_cast<T>(settings.weight_decay)), eps(static_cast<T>(kEps));
  const V rest1(static_cast<T>(1 - kBeta1)), beta2(static_cast<T>(kBeta2));
  const V rest2(static_cast<T>(1 - kBeta2));
  T* flat = state.flat.mutable_data_ptr<T>();
  const T* gradient = state.gradient.const_data_ptr<T>();
  T* exp_avg = state.exp_avg.mutable_data_ptr<T>();
  T* exp_avg_sq = state.exp_avg_sq.mutable_data_ptr<T>();
  const auto update = [&](int64_t i, int64_t n) {
    const V p = V::loadu(flat + i, n);
    const V g = at::vec::fmadd(p, decay, V::loadu(gradient + i, n));
    const V before = V::loadu(exp_avg + i, n), before_sq = V::loadu(exp_avg_sq + i, n);
    const V mean = at::vec::fmadd(rest1, g - before, before);
    const V square = at::vec::fmadd(rest2, g * g, beta2 * before_sq);
    const V denominator = at::vec::fmadd(square.sqrt(), root, eps);
    mean.store(exp_avg + i, n);
    square.store(exp_avg_sq + i, n);
    (p - rate * mean / denominator).store(flat + i, n);
  };
  // Threads take whole stretches, so that no vector lies across two lines of the cache.
  const int64_t size = state.flat.numel(), stretches = (size + kStretch - 1) / kStretch;
  at::parallel_for(0, stretches, kParallelStretches, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kStretch; begin < end; ++begin, first += kStretch) {
      const int64_t last = std::min(first + kStretch, size);
      for_vectors<V>(last - first, [&](int64_t i, int64_t n) { update(first + i, n); });
      follow(first, last);
    }
  });
}

std::vector<at::Tensor> pieces_of(const at::Tensor& vector) {
  if (vector.numel() >= kPieces * kWholePiece) return {vector};
  const int64_t unit = kPieces * kPieceAlign, units = (vector.numel() + unit - 1) / unit;
  return vector.split(units * kPieceAlign);
}

template <typename T>
void average_kernel(T* average, const T* values, double rate, int64_t n) {
  using V = at::vec::Vectorized<T>;
  const V share(static_cast<T>(rate));
  for_vectors<V>(n, [&](int64_t i, int64_t count) {
    const V before = V::loadu(average + i, count);
    at::vec::fmadd(share, V::loadu(values + i, count) - before, before).store(average + i, count);
  });
}

// For tests: a step, with an average that follows.
void checked_adam_step(at::TensorList trained, const at::Tensor& average, double learning_rate,
                       double weight_decay, double rate) {
  const AdamState state =
      adam_state(trained, "adam_step", trained.empty() ? 0 : trained[0].numel());
  TORCH_CHECK_VALUE(average.sizes() == state.flat.sizes() && average.is_contiguous() &&
                        average.scalar_type() == state.flat.scalar_type() &&
                        average.device() == state.flat.device(),
                    "adam_step: got a ", average.scalar_type(), " average of shape ",
                    average.sizes(), " on ", average.device(), "; it must be as the parameters, ",
                    state.flat.scalar_type(), " of shape ", state.flat.sizes(), " on ",
                    state.flat.device(), ".");
  adam_step(state, {learning_rate, weight_decay}, [&](int64_t begin, int64_t end) {
    average_in_place(average, state.flat, rate, begin, end);
  });
}

}  // namespace

AdamState adam_state(at::TensorList tensors, const char* name, int64_t numbers) {
  TORCH_CHECK_VALUE(tensors.size() == 5, name, " has ", tensors.size(),
                    " tensors; it must be [flat, gradient, exp_avg, exp_avg_sq, step].");
  const at::Tensor &flat = tensors[0], &step = tensors[4];
  for (const at::Tensor& vector : tensors.slice(0, 4)) {
    TORCH_CHECK_VALUE(vector.dim() == 1 && vector.is_contiguous() && vector.numel() == numbers &&
                          at::isFloatingType(vector.scalar_type()) &&
                          vector.scalar_type() == flat.scalar_type() &&
                          vector.device() == flat.device(),
                      name, " has a ", vector.scalar_type(), " tensor of shape ", vector.sizes(),
                      " on ", vector.device(), "; its first four must be contiguous vectors of ",
                      numbers, " numbers, one floating-point type and one device.");
  }
  for (const at::Tensor& t : tensors) {
    TORCH_CHECK_VALUE(!(t.requires_grad() && at::GradMode::is_enabled()), name,
                      " has a tensor that requires gradients; pass it detached, as it is updated "
                      "in place.");
  }
  TORCH_CHECK_VALUE(
      step.dim() == 0 && step.scalar_type() == at::kFloat && step.device() == flat.device(), name,
      "'s step is ", step.scalar_type(), " of shape ", step.sizes(), " on ", step.device(),
      "; it must be a float32 scalar on ", flat.device(), " as the parameters.");
  AdamState state{flat, tensors[1], tensors[2], tensors[3], step, {}, {}, {}, {}};
  if (!takes_float_kernels(flat)) {
    state.flats = pieces_of(state.flat);
    state.gradients = pieces_of(state.gradient);
    state.exp_avgs = pieces_of(state.exp_avg);
    state.exp_avg_sqs = pieces_of(state.exp_avg_sq);
  }
  return state;
}

void adam_step(const AdamState& state, const AdamSettings& settings, Follow follow) {
  if (takes_float_kernels(state.flat)) {
    return state.flat.scalar_type() == at::kFloat ? kernel<float>(state, settings, follow)
                                                  : kernel<double>(state, settings, follow);
  }
  at::Tensor step = state.step;
  step.add_(1);
  const std::vector<at::Tensor> steps(state.flats.size(), step);
  at::_fused_adam_(state.flats, state.gradients, state.exp_avgs, state.exp_avg_sqs, {}, steps,
                   settings.learning_rate, kBeta1, kBeta2, settings.weight_decay, kEps,
                   /*amsgrad=*/false, /*maximize=*/false);
  follow(0, state.flat.numel());
}

void average_in_place(at::Tensor average, const at::Tensor& values, double rate, int64_t begin,
                      int64_t end) {
  const int64_t n = end - begin;
  if (!takes_float_kernels(average)) {
    average.narrow(0, begin, n).lerp_(values.narrow(0, begin, n), rate);
  } else if (average.scalar_type() == at::kFloat) {
    average_kernel(average.mutable_data_ptr<float>() + begin,
                   values.const_data_ptr<float>() + begin, rate, n);
  } else {
    average_kernel(average.mutable_data_ptr<double>() + begin,
                   values.const_data_ptr<double>() + begin, rate, n);
  }
}

TORCH_LIBRARY_IMPL(tom_tests, CompositeExplicitAutograd, m) {
  m.impl("adam_step", checked_adam_step);
}

}  // namespace tom
