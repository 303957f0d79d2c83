// An array that Python lends to a call: the memory of a torch.Tensor or a numpy.ndarray, without a
// copy.
#pragma once

#include <pybind11/numpy.h>

#include <array>
#include <cstdint>
#include <string>

namespace tom {

namespace py = pybind11;

struct Borrowed {
  enum class Type { kFloat32, kFloat64, kInt64, kOther };

  // Throws a TypeError or ValueError that says what to pass instead, if it is not an array in this
  // machine's memory.
  Borrowed(const py::handle& object, const char* name);

  std::string dtype_text() const;
  std::string shape_text() const;
  std::size_t size() const;
  std::size_t shape(std::size_t axis) const { return static_cast<std::size_t>(shape_[axis]); }

  const char* name;
  void* data;
  Type type;
  std::size_t ndim;
  bool contiguous;
  bool writeable;

 private:
  void borrow_tensor();
  void borrow_ndarray();

  py::handle object_;
  static constexpr std::size_t kAxes = 2;  // no argument may have more
  std::array<std::int64_t, kAxes> shape_{};
};

}  // namespace tom
