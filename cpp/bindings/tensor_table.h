// The table of functions that torch.Tensor publishes for other libraries (DLPack's
// `__dlpack_c_exchange_api__`). Through it tensors are read and made in some ten nanoseconds each,
// without torch's headers; the same from Python takes half a microsecond or more per tensor, a
// large part of a small draw.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <span>

struct DLPackExchangeAPI;

static_assert(PYBIND11_VERSION_MAJOR == TOM_PYBIND11_MAJOR &&
                  PYBIND11_VERSION_MINOR == TOM_PYBIND11_MINOR,
              "the pybind11 that torch carries was found before the project's own");

namespace tom {

namespace py = pybind11;

// Sets up the table; called once, when the module is loaded.
void learn_tensor_type(const py::type& tensor);

// Whether the object is a tensor, and the table to read it with.
bool is_tensor(const py::handle& object);
const DLPackExchangeAPI& tensor_table();

// A new torch.Tensor in this machine's memory, and where to write its elements.
template <class T>
struct NewTensor {
  py::object object;
  T* data;
};
NewTensor<float> new_rows(std::size_t n, std::size_t width);  // float32 [n, width]
NewTensor<std::int64_t> new_slots(std::size_t n);             // int64 [n]

}  // namespace tom
