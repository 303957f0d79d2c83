#include "ops/mlp_inference.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "ops/blocked_product.h"

namespace tom {
namespace {

using at::Tensor;
using at::TensorList;

// Two hidden layers of 256 for so many rows take half of L2, and the weights of a layer a quarter.
constexpr int64_t kRows = 256;

template <typename T>
Block<const T> member(const Tensor& t, int64_t s, int64_t m) {
  const T* data = t.const_data_ptr<T>() + s * t.stride(0) + (t.size(1) == 1 ? 0 : m * t.stride(1));
  return {data, t.stride(2), t.dim() == 4 ? t.stride(3) : 0};
}

template <typename T>
void forward(const Tensor& x, TensorList weights, TensorList biases, Activation activation,
             const Tensor& out) {
  const int64_t members = out.size(1), rows = out.size(2), outputs = out.size(3);
  const int64_t blocks = (rows + kRows - 1) / kRows;
  int64_t widest = 0;
  for (const Tensor& w : weights) widest = std::max(widest, w.size(3));
  T* result = out.mutable_data_ptr<T>();
  at::parallel_for(0, out.size(0) * members * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> memory(2 * kRows * widest);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t stack = task / blocks, s = stack / members, m = stack % members;
      const int64_t first = task % blocks * kRows, count = std::min(kRows, rows - first);
      Block<const T> h = member<T>(x, s, m);
      h.data += first * h.row;
      for (size_t l = 0; l < weights.size(); ++l) {
        const int64_t width = weights[l].size(3);
        const bool last = l + 1 == weights.size();
        T* z = last ? result + (stack * rows + first) * outputs
                    : memory.data() + l % 2 * kRows * widest;
        block_product<T>(h, member<T>(weights[l], s, m), z, count, weights[l].size(2), width);
        const T* bias = member<T>(biases[l], s, m).data;
        last ? add_bias_rows(z, bias, count, width)
             : activate_rows(z, bias, count, width, activation);
        h = {z, width, 1};
      }
    }
  });
}

}  // namespace

bool has_mlp_inference(const Tensor& x, TensorList weights, TensorList biases) {
  const auto has_rows = [](const Tensor& bias) { return bias.stride(2) == 1; };
  const auto is_alike = [&](const Tensor& w) { return w.scalar_type() == x.scalar_type(); };
  return has_blocked_product(x) && x.size(2) >= kRows * at::get_num_threads() &&
         std::all_of(weights.begin(), weights.end(), is_alike) &&
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
