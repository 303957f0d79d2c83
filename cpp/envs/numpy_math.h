// NumPy's arithmetic, to the last bit.
//
// Gymnasium's rewards are NumPy expressions. A sum's rounding depends on the order of its
// additions, so these functions add in NumPy's order; they are compiled without contraction.
#pragma once

#include <cmath>

namespace tom::envs {

// term(0) + ... + term(n - 1), rounded to T after every operation, in the order of NumPy's
// pairwise summation of a contiguous array: one by one below 8 terms, in 8 interleaved partial
// sums up to 128 terms, and by halves (whole multiples of 8) above.
template <typename T, typename Term>
T pairwise_sum(int n, Term term, int first = 0) {
  if (n < 8) {
    T total = T(0);
    for (int i = 0; i < n; ++i) total += term(first + i);
    return total;
  }
  if (n <= 128) {
    T partial[8];
    for (int j = 0; j < 8; ++j) partial[j] = term(first + j);
    int i = 8;
    for (; i < n - n % 8; i += 8) {
      for (int j = 0; j < 8; ++j) partial[j] += term(first + i + j);
    }
    T total = ((partial[0] + partial[1]) + (partial[2] + partial[3])) +
              ((partial[4] + partial[5]) + (partial[6] + partial[7]));
    for (; i < n; ++i) total += term(first + i);
    return total;
  }
  int half = n / 2;
  half -= half % 8;
  return pairwise_sum<T>(half, term, first) + pairwise_sum<T>(n - half, term, first + half);
}

// np.sum(np.square(x))
template <typename T>
T square_sum(const T* x, int n) {
  return pairwise_sum<T>(n, [x](int i) { return x[i] * x[i]; });
}

// np.clip(x, low, high); NaN stays NaN.
inline double clip(double x, double low, double high) {
  const double raised = x < low ? low : x;
  return raised > high ? high : raised;
}

// x ** 2 of a NumPy scalar: the C library's pow, whose last bit is not always that of x * x.
// The exponent is volatile because compilers replace pow(x, 2.0) by x * x.
inline double numpy_square(double x) {
  const volatile double exponent = 2.0;
  return std::pow(x, exponent);
}

// np.linalg.norm of a short vector: the root of a BLAS dot product. Whether BLAS fuses the
// multiplication into the addition depends on the library and the processor, so the caller, who
// can ask NumPy, says.
struct NumpyNorm {
  bool fused;

  double operator()(const double* x, int n) const {
    double total = 0.0;
    for (int i = 0; i < n; ++i) {
      total = fused ? std::fma(x[i], x[i], total) : total + x[i] * x[i];
    }
    return std::sqrt(total);
  }
};

}  // namespace tom::envs
