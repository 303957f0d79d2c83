// The checks between Python and the replay buffer. Each message says what was given and what is
// allowed.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "bindings/borrowed.h"
#include "bindings/tensor_table.h"
#include "replay/replay_buffer.h"

namespace tom {

namespace py = pybind11;
using replay::Leaves;
using replay::ReplayBuffer;

inline std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

[[noreturn]] inline void throw_dtype(const Borrowed& a, const char* wanted) {
  throw py::type_error(std::string(a.name) + " has dtype " + a.dtype_text() + "; it must be " +
                       wanted + ", so convert it first");
}

inline void check_contiguous(const Borrowed& a) {
  if (a.contiguous) return;
  throw py::value_error(std::string(a.name) + " of shape " + a.shape_text() +
                        " is not contiguous; pass a contiguous copy of it");
}

inline void check_vector(const Borrowed& a) {
  if (a.ndim != 1) {
    throw py::value_error(std::string(a.name) + " has shape " + a.shape_text() +
                          "; it must have one dimension");
  }
  check_contiguous(a);
}

inline bool to_flag(const py::handle& flag, const char* name) {
  if (!py::isinstance<py::bool_>(flag) &&
      !py::isinstance(flag, py::module_::import("numpy").attr("bool_"))) {
    throw py::type_error(std::string(name) + " is " + text(py::repr(flag)) +
                         "; it must be True or False");
  }
  return py::cast<bool>(py::bool_(py::reinterpret_borrow<py::object>(flag)));
}

inline std::size_t to_count(const py::handle& n, const char* name) {
  if (!PyIndex_Check(n.ptr())) {
    throw py::type_error(std::string(name) + " is " + text(py::repr(n)) + "; it must be an int");
  }
  constexpr Py_ssize_t kMost = Py_ssize_t{1} << 40;
  const Py_ssize_t value = PyNumber_AsSsize_t(n.ptr(), nullptr);  // the nearest that there is
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (value < 0) {
    throw py::value_error(std::string(name) + " is " + text(n) + "; it must not be negative");
  }
  if (value > kMost) {
    throw py::value_error(std::string(name) + " is " + text(n) + "; it must be at most 2^40");
  }
  return static_cast<std::size_t>(value);
}

[[noreturn]] inline void throw_bad_weight(std::size_t i, double w) {
  throw py::value_error("weight " + std::to_string(i) + " is " + text(py::float_(w)) +
                        "; weights must be finite, not negative, and at most 1e290");
}

template <class T>
inline void check_weights(const T* w, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const auto value = static_cast<double>(w[i]);
    if (!Leaves::is_weight(value)) throw_bad_weight(i, value);
  }
}

// Calls use(span) with the float32 or float64 numbers of a vector.
template <class Use>
auto with_numbers(const Borrowed& a, const Use& use) {
  if (a.type == Borrowed::Type::kFloat32) {
    return use(std::span(static_cast<const float*>(a.data), a.size()));
  }
  if (a.type != Borrowed::Type::kFloat64) throw_dtype(a, "float32 or float64");
  return use(std::span(static_cast<const double*>(a.data), a.size()));
}

// The double nearest to a real number of Python or NumPy: infinity where it is too large for one.
inline double to_double(const py::handle& number, const char* name) {
  if (!PyFloat_Check(number.ptr()) && !PyLong_Check(number.ptr()) &&
      !py::isinstance(number, py::module_::import("numbers").attr("Real"))) {
    throw py::type_error(std::string(name) + " is of type " + Py_TYPE(number.ptr())->tp_name +
                         "; pass a number, a torch.Tensor or a numpy.ndarray");
  }
  const double value = PyFloat_AsDouble(number.ptr());
  if (value != -1.0 || !PyErr_Occurred()) return value;
  if (!PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
  PyErr_Clear();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return number < py::int_(0) ? -kInfinity : kInfinity;
}

// [n], or one number that all share, checked and as float64.
inline std::vector<double> to_weights(const py::handle& object, std::size_t n, const char* name,
                                      const char* of_what) {
  std::vector<double> out;
  if (!is_tensor(object) && !py::isinstance<py::array>(object)) {
    out.assign(1, to_double(object, name));
  } else if (const Borrowed a(object, name); a.ndim == 0) {
    out.assign(1, to_double(object.attr("item")(), name));
  } else {
    check_vector(a);
    with_numbers(a, [&](const auto& numbers) { out.assign(numbers.begin(), numbers.end()); });
    if (out.size() != n) {
      throw py::value_error(std::string(name) + " has " + std::to_string(out.size()) +
                            " entries for " + std::to_string(n) + " " + of_what +
                            "; pass one weight for each of them");
    }
  }
  check_weights(out.data(), out.size());
  return out;
}

// A copy, as whoever owns the array may write to it once it has been checked: another thread, or
// the call itself through an `out` in the same memory.
inline std::vector<std::int64_t> to_slots(const ReplayBuffer& buffer, const py::handle& object) {
  const Borrowed a(object, "idx");
  check_vector(a);
  if (a.type != Borrowed::Type::kInt64) throw_dtype(a, "int64");
  const auto* numbers = static_cast<const std::int64_t*>(a.data);
  std::vector<std::int64_t> slots(numbers, numbers + a.size());
  if (const std::int64_t* empty = buffer.find_empty(slots)) {
    throw py::index_error(
        "idx[" + std::to_string(empty - slots.data()) + "] is " + std::to_string(*empty) +
        "; the buffer holds rows 0 to len - 1 with len = " + std::to_string(buffer.size()));
  }
  return slots;
}

inline void check_rows(const ReplayBuffer& buffer, const Borrowed& a) {
  if (a.type != Borrowed::Type::kFloat32) throw_dtype(a, "float32");
  if (a.ndim != 2 || a.shape(1) != buffer.width()) {
    throw py::value_error(std::string(a.name) + " has shape " + a.shape_text() +
                          "; it must be [n, " + std::to_string(buffer.width()) + "]");
  }
  check_contiguous(a);
}

// Whether the numbers lie in the buffer's own memory, which the view `rows` shows.
inline bool is_own(const ReplayBuffer& buffer, const float* numbers) {
  const std::less<const float*> before;  // of any two pointers
  const float* const own = buffer.data();
  return !before(numbers, own) && before(numbers, own + buffer.capacity() * buffer.width());
}

// float32 [n, width] to write n rows into.
inline float* to_out(const ReplayBuffer& buffer, std::size_t n, const py::handle& object) {
  const Borrowed a(object, "out");
  check_rows(buffer, a);
  if (a.shape(0) != n) {
    throw py::value_error("out has shape " + a.shape_text() + "; it must be [" + std::to_string(n) +
                          ", " + std::to_string(buffer.width()) + "]");
  }
  if (!a.writeable) throw py::value_error("out is read-only; pass an array that can be written");
  auto* const numbers = static_cast<float*>(a.data);
  if (n > 0 && is_own(buffer, numbers)) {
    throw py::value_error("out is a view of the buffer's own rows; pass another array");
  }
  return numbers;
}

// `out`, or a new tensor, and where to write in it.
struct Target {
  Target(const ReplayBuffer& buffer, std::size_t n, const py::object& out) : object(out) {
    if (out.is_none()) {
      NewTensor<float> rows = new_rows(n, buffer.width());
      data = rows.data;
      object = std::move(rows.object);
    } else {
      data = to_out(buffer, n, out);
    }
  }
  py::object object;
  float* data;
};

}  // namespace tom
