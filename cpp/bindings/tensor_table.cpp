#include "bindings/tensor_table.h"

// The DLPack standard's own header, of which torch carries a copy; plain C.
#include <ATen/dlpack.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <new>
#include <stdexcept>

namespace tom {
namespace {

PyTypeObject* tensor_type = nullptr;
const DLPackExchangeAPI* table = nullptr;

constexpr std::size_t kLine = 64;
constexpr std::size_t kMostBytes = std::size_t{1} << 62;

// What a new tensor's memory begins with; its elements follow at the next cache line.
template <std::size_t kAxes>
struct Description {
  DLManagedTensorVersioned managed;  // first, so that its address is the memory's
  std::array<std::int64_t, kAxes> shape, strides;
};

template <class T, std::size_t kAxes>
NewTensor<T> new_tensor(DLDataType dtype, const std::array<std::size_t, kAxes>& shape) {
  std::size_t elements = 1;
  for (const std::size_t size : shape) {
    if (size > kMostBytes / sizeof(T) / std::max<std::size_t>(elements, 1)) throw std::bad_alloc();
    elements *= size;
  }
  void* const memory = std::malloc(sizeof(Description<kAxes>) + kLine - 1 + elements * sizeof(T));
  if (!memory) throw std::bad_alloc();
  auto* const description = new (memory) Description<kAxes>{};
  const auto end = reinterpret_cast<std::uintptr_t>(description + 1);
  auto* const data = reinterpret_cast<T*>((end + kLine - 1) & ~std::uintptr_t{kLine - 1});
  std::int64_t step = 1;
  for (std::size_t axis = kAxes; axis-- > 0;) {
    description->shape[axis] = static_cast<std::int64_t>(shape[axis]);
    description->strides[axis] = step;
    step *= description->shape[axis];
  }
  description->managed = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION},
                          .manager_ctx = nullptr,
                          .deleter = [](DLManagedTensorVersioned* self) { std::free(self); },
                          .flags = 0,
                          .dl_tensor = {.data = data,
                                        .device = {kDLCPU, 0},
                                        .ndim = static_cast<std::int32_t>(kAxes),
                                        .dtype = dtype,
                                        .shape = description->shape.data(),
                                        .strides = description->strides.data(),
                                        .byte_offset = 0}};
  void* object = nullptr;
  if (tensor_table().managed_tensor_to_py_object_no_sync(&description->managed, &object) != 0) {
    throw py::error_already_set();
  }
  return {py::reinterpret_steal<py::object>(static_cast<PyObject*>(object)), data};
}

}  // namespace

void learn_tensor_type(const py::type& tensor) {
  const py::object capsule = tensor.attr("__dlpack_c_exchange_api__");
  const auto* api = static_cast<const DLPackExchangeAPI*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!api) throw py::error_already_set();
  if (api->header.version.major != DLPACK_MAJOR_VERSION || !api->dltensor_from_py_object_no_sync) {
    throw std::runtime_error("this torch publishes its tensors by another version of DLPack");
  }
  table = api;
  tensor_type = reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr());
}

bool is_tensor(const py::handle& object) {
  return tensor_type && PyObject_TypeCheck(object.ptr(), tensor_type);
}

const DLPackExchangeAPI& tensor_table() {
  if (!table) throw std::runtime_error("call learn_tensor_type first");
  return *table;
}

NewTensor<float> new_rows(std::size_t n, std::size_t width) {
  return new_tensor<float, 2>({kDLFloat, 32, 1}, {n, width});
}

NewTensor<std::int64_t> new_slots(std::size_t n) {
  return new_tensor<std::int64_t, 1>({kDLInt, 64, 1}, {n});
}

}  // namespace tom
