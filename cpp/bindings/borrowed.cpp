#include "bindings/borrowed.h"

// The DLPack standard's own header, of which torch carries a copy; plain C.
#include <ATen/dlpack.h>

#include "bindings/tensor_table.h"

namespace tom {
namespace {

std::string text(const py::handle& object) { return py::str(object).cast<std::string>(); }

Borrowed::Type type_of(const DLDataType& dtype) {
  using Type = Borrowed::Type;
  if (dtype.lanes != 1) return Type::kOther;
  if (dtype.code == kDLFloat && dtype.bits == 32) return Type::kFloat32;
  if (dtype.code == kDLFloat && dtype.bits == 64) return Type::kFloat64;
  if (dtype.code == kDLInt && dtype.bits == 64) return Type::kInt64;
  return Type::kOther;
}

Borrowed::Type type_of(const py::array& array) {
  using Type = Borrowed::Type;
  if (py::isinstance<py::array_t<float>>(array)) return Type::kFloat32;
  if (py::isinstance<py::array_t<double>>(array)) return Type::kFloat64;
  if (py::isinstance<py::array_t<std::int64_t>>(array)) return Type::kInt64;
  return Type::kOther;
}

// Whether there is memory behind a tensor. Where there is none, torch gives as address of its first
// element the offset of that in bytes. (Real addresses are mostly so high that there is no need to
// ask for it.)
bool has_memory(const py::handle& object, const DLTensor& tensor) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (address >> 40) return true;
  const auto offset = object.attr("storage_offset")().cast<std::size_t>();
  return address != offset * (tensor.dtype.bits / 8);
}

std::size_t size_of(Borrowed::Type type) {
  using Type = Borrowed::Type;
  return type == Type::kOther ? 1 : type == Type::kFloat32 ? 4 : 8;
}

}  // namespace

Borrowed::Borrowed(const py::handle& object, const char* name) : name(name), object_(object) {
  if (is_tensor(object)) {
    borrow_tensor();
  } else if (py::isinstance<py::array>(object)) {
    borrow_ndarray();
  } else {
    throw py::type_error(std::string(name) + " is of type " + Py_TYPE(object.ptr())->tp_name +
                         "; pass a torch.Tensor or a numpy.ndarray");
  }
  // As of numpy.frombuffer with an odd offset.
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(type) != 0) {
    throw py::value_error(std::string(name) + " begins at an address that is no multiple of the " +
                          std::to_string(size_of(type)) + " bytes of its " + dtype_text() +
                          "; pass a copy of it");
  }
}

void Borrowed::borrow_tensor() {
  DLTensor tensor;
  const bool described =
      tensor_table().dltensor_from_py_object_no_sync(object_.ptr(), &tensor) == 0;
  if (!described) {
    PyErr_Clear();  // torch says where it failed; what to do is said below
    const std::string device = text(object_.attr("device"));
    const std::string layout = text(object_.attr("layout"));
    if (device == "cpu" && layout == "torch.strided") {
      throw py::value_error(std::string(name) +
                            " has no plain memory (it is quantized, or a part "
                            "of torch.func's); pass a torch.Tensor that holds its numbers itself");
    }
    if (device == "cpu") {
      throw py::value_error(std::string(name) + " has no plain memory (its layout is " + layout +
                            "); pass a dense tensor, such as " + name + ".to_dense()");
    }
    throw py::value_error(std::string(name) + " is on " + device +
                          "; the buffer is on the cpu, so pass " + name + ".cpu()");
  }
  if (tensor.device.device_type != kDLCPU) {
    throw py::value_error(std::string(name) + " is on " + text(object_.attr("device")) +
                          "; the buffer is on the cpu, so pass " + name + ".cpu()");
  }
  // The table does not tell of torch's lazy negation, as x.conj().imag has it.
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  const auto negated =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(object_.ptr(), is_neg));
  if (!negated) throw py::error_already_set();
  if (negated.ptr() == Py_True) {
    throw py::value_error(std::string(name) + " is a negated view; pass " + name +
                          ".resolve_neg()");
  }
  data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  type = type_of(tensor.dtype);
  ndim = static_cast<std::size_t>(tensor.ndim);
  writeable = true;
  contiguous = true;
  std::int64_t step = 1;
  for (std::size_t axis = ndim; axis-- > 0;) {
    if (axis < kAxes) shape_[axis] = tensor.shape[axis];
    if (tensor.strides && tensor.shape[axis] != 1 && tensor.strides[axis] != step) {
      contiguous = false;
    }
    step *= tensor.shape[axis];
  }
  if (step == 0) contiguous = true;  // of no elements
  if (step != 0 && !has_memory(object_, tensor)) {
    throw py::value_error(std::string(name) + " has no plain memory (the storage of this " +
                          Py_TYPE(object_.ptr())->tp_name +
                          " is empty); pass a torch.Tensor that holds its numbers itself");
  }
}

void Borrowed::borrow_ndarray() {
  const auto array = py::reinterpret_borrow<py::array>(object_);
  data = const_cast<void*>(array.data());
  type = type_of(array);
  ndim = static_cast<std::size_t>(array.ndim());
  writeable = array.writeable();
  contiguous = (array.flags() & py::array::c_style) != 0;
  for (std::size_t axis = 0; axis < ndim && axis < kAxes; ++axis) {
    shape_[axis] = array.shape(static_cast<py::ssize_t>(axis));
  }
}

std::string Borrowed::dtype_text() const {
  const std::string whole = text(object_.attr("dtype")), torch = "torch.";
  return whole.starts_with(torch) ? whole.substr(torch.size()) : whole;
}

std::string Borrowed::shape_text() const {
  return text(py::tuple(py::list(object_.attr("shape"))));  // not torch.Size(...)
}

std::size_t Borrowed::size() const {
  std::size_t size = 1;
  for (std::size_t axis = 0; axis < ndim; ++axis) size *= shape(axis);
  return size;
}

}  // namespace tom
