// The checks between Python and the replay buffer. Each message says what was given and what is
// allowed.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "replay/replay_buffer.h"

namespace tom {

namespace py = pybind11;
using replay::ReplayBuffer;
using replay::Leaves;
using Slots = py::array_t<std::int64_t>;
using Rows = py::array_t<float>;

inline std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

inline std::string shape_text(const py::array& a) { return text(a.attr("shape")); }

template <class T>
inline void check_dtype(const py::array& a, const char* name, const char* wanted) {
  if (py::isinstance<py::array_t<T>>(a)) return;
  throw py::type_error(std::string(name) + " has dtype " + text(a.dtype()) + "; it must be " +
                       wanted + ", so convert it first");
}

inline void check_contiguous(const py::array& a, const char* name) {
  if (a.flags() & py::array::c_style) return;
  throw py::value_error(std::string(name) + " of shape " + shape_text(a) +
                        " is not contiguous; pass a contiguous copy of it");
}

inline void check_vector(const py::array& a, const char* name) {
  if (a.ndim() != 1) {
    throw py::value_error(std::string(name) + " has shape " + shape_text(a) +
                          "; it must have one dimension");
  }
  check_contiguous(a, name);
}

inline std::size_t to_count(const py::handle& n, const char* name) {
  if (!PyIndex_Check(n.ptr())) {
    throw py::type_error(std::string(name) + " is " + text(py::repr(n)) + "; it must be an int");
  }
  const Py_ssize_t value = PyNumber_AsSsize_t(n.ptr(), PyExc_OverflowError);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (value < 0) {
    throw py::value_error(std::string(name) + " is " + text(n) + "; it must not be negative");
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

// [n], or [1] for a weight that all share, checked and as float64.
inline std::vector<double> to_weights(const py::array& a, std::size_t n, const char* of_what) {
  check_vector(a, "weight");
  std::vector<double> out(a.size());
  if (py::isinstance<py::array_t<float>>(a)) {
    const auto* from = static_cast<const float*>(a.data());
    out.assign(from, from + a.size());
  } else {
    check_dtype<double>(a, "weight", "float32 or float64");
    const auto* from = static_cast<const double*>(a.data());
    out.assign(from, from + a.size());
  }
  if (out.size() != n && out.size() != 1) {
    throw py::value_error("weight has " + std::to_string(out.size()) + " entries for " +
                          std::to_string(n) + " " + of_what + "; pass one weight for each of them");
  }
  check_weights(out.data(), out.size());
  return out;
}

inline std::span<const std::int64_t> to_slots(const ReplayBuffer& buffer, const py::array& a) {
  check_vector(a, "idx");
  check_dtype<std::int64_t>(a, "idx", "int64");
  const std::span slots(static_cast<const std::int64_t*>(a.data()),
                        static_cast<std::size_t>(a.size()));
  if (const std::int64_t* empty = buffer.find_empty(slots)) {
    throw py::index_error(
        "idx[" + std::to_string(empty - slots.data()) + "] is " + std::to_string(*empty) +
        "; the buffer holds rows 0 to len - 1 with len = " + std::to_string(buffer.size()));
  }
  return slots;
}

inline const float* to_rows(const ReplayBuffer& buffer, const py::array& a, const char* name) {
  check_dtype<float>(a, name, "float32");
  if (a.ndim() != 2 || static_cast<std::size_t>(a.shape(1)) != buffer.width()) {
    throw py::value_error(std::string(name) + " has shape " + shape_text(a) + "; it must be [n, " +
                          std::to_string(buffer.width()) + "]");
  }
  check_contiguous(a, name);
  return static_cast<const float*>(a.data());
}

// `out` if one was given, else a new array.
inline Rows rows_for(const ReplayBuffer& buffer, std::size_t n, const py::object& out) {
  if (out.is_none()) return Rows({n, buffer.width()});
  const auto array = py::cast<py::array>(out);
  to_rows(buffer, array, "out");
  if (static_cast<std::size_t>(array.shape(0)) != n) {
    throw py::value_error("out has shape " + shape_text(array) + "; it must be [" +
                          std::to_string(n) + ", " + std::to_string(buffer.width()) + "]");
  }
  if (!array.writeable())
    throw py::value_error("out is read-only; pass an array that can be written");
  return py::reinterpret_borrow<Rows>(array);
}

}  // namespace tom
