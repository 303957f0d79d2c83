#include "ops/mlp_inference.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "ops/factors.h"

namespace tom {
namespace {

using at::Tensor;
using at::TensorList;
using Half = at::BFloat16;

// Two hidden layers of 256 for so many rows take half of L2, and the weights of a layer a quarter.
constexpr int64_t kRows = 256;

template <typename T>
Block<const T> member(const Tensor& t, int64_t s, int64_t m) {
  const T* data = t.const_data_ptr<T>() + s * t.stride(0) + (t.size(1) == 1 ? 0 : m * t.stride(1));
  return {data, t.stride(2), t.dim() == 4 ? t.stride(3) : 0};
}

bool is_half(const Tensor& t) { return t.scalar_type() == at::kBFloat16; }

template <typename T>
void forward(const Tensor& x, TensorList weights, TensorList biases, Activation activation,
             const Tensor& out) {
  const int64_t members = out.size(1), rows = out.size(2), outputs = out.size(3);
  const int64_t blocks = (rows + kRows - 1) / kRows;
  int64_t widest = 0;
  for (const Tensor& w : weights) widest = std::max(widest, w.size(3));
  const bool mixed = std::any_of(weights.begin(), weights.end(), is_half);
  T* result = out.mutable_data_ptr<T>();
  at::parallel_for(0, out.size(0) * members * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> memory(2 * kRows * widest);
    std::vector<Half> half_memory(mixed ? memory.size() : 0);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t stack = task / blocks, s = stack / members, m = stack % members;
      const int64_t first = task % blocks * kRows, count = std::min(kRows, rows - first);
      // A layer reads h, or half, in one part of its memory, and writes to the other.
      Block<const T> h = member<T>(x, s, m);
      h.data += first * h.row;
      [[maybe_unused]] Block<const Half> half{};
      for (size_t l = 0; l + 1 < weights.size(); ++l) {
        const int64_t depth = weights[l].size(2), width = weights[l].size(3);
        const T* bias = member<T>(biases[l], s, m).data;
        const auto layer = [&]<typename Z, typename Value>(Block<const Z> in, Z* z, Value* value) {
          block_product<Z>(in, member<Z>(weights[l], s, m), z, count, depth, width);
          activate_rows(z, bias, value, count, width, activation);
          return Block<const Value>{value, width, 1};
        };
        T* to = memory.data() + l % 2 * kRows * widest;
#ifdef TOM_BFLOAT16_FACTORS
        if constexpr (std::is_same_v<T, float>) {
          Half* half_to = half_memory.data() + l % 2 * kRows * widest;
          const bool half_next = is_half(weights[l + 1]);
          if (is_half(weights[l])) {
            half_next ? void(half = layer(half, half_to, half_to))
                      : void(h = layer(half, half_to, to));
            continue;
          }
          if (half_next) {
            half = layer(h, to, half_to);
            continue;
          }
        }
#endif
        h = layer(h, to, to);
      }
      T* z = result + (stack * rows + first) * outputs;
      block_product<T>(h, member<T>(weights.back(), s, m), z, count, weights.back().size(2),
                       outputs);
      add_bias_rows(z, member<T>(biases.back(), s, m).data, count, outputs);
    }
  });
}

}  // namespace

bool has_mlp_inference(const Tensor& x, TensorList weights, TensorList biases) {
  const auto has_rows = [](const Tensor& bias) { return bias.stride(2) == 1; };
  const auto is_taken = [&](const Tensor& w) {
    const bool between = &w != &weights.front() && &w != &weights.back();
    return w.scalar_type() == x.scalar_type() || (between && is_half(w) && has_blocked_product(w));
  };
  return has_blocked_product(x) && x.size(2) >= kRows * at::get_num_threads() && !is_half(x) &&
         std::all_of(weights.begin(), weights.end(), is_taken) &&
         std::all_of(biases.begin(), biases.end(), has_rows);
}

Tensor mlp_inference(const Tensor& x, TensorList weights, TensorList biases,
                     Activation activation) {
  const Tensor out =
      at::empty({x.size(0), weights[0].size(1), x.size(2), weights.back().size(3)}, x.options());
  x.scalar_type() == at::kFloat ? forward<float>(x, weights, biases, activation, out)
                                : forward<double>(x, weights, biases, activation, out);
  return out;
}

}  // namespace tom
