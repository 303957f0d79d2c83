// tom._native.ReplayBuffer: tensors or NumPy arrays in, tensors out; for what is rarely asked for,
// NumPy arrays out, which Python (tom/replay.py) turns into tensors.
#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "bindings/module.h"
#include "bindings/replay_checks.h"
#include "replay/philox.h"
#include "replay/replay_buffer.h"

namespace py = pybind11;

namespace tom {
namespace {

using replay::ReplayBuffer;

[[noreturn]] void throw_nothing_to_draw(const ReplayBuffer& buffer) {
  throw std::runtime_error(
      buffer.size() == 0
          ? "cannot draw from an empty buffer; append rows first"
          : "cannot draw: the weights of all " + std::to_string(buffer.size()) +
                " rows sum to 0; give at least one row a positive weight, or use draw_uniform");
}

template <class Draw>
py::object draw_slots(const ReplayBuffer& buffer, std::size_t n, const Draw& draw) {
  NewTensor<std::int64_t> slots = new_slots(n);
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    drawn = draw(slots.data);
  }
  if (!drawn) throw_nothing_to_draw(buffer);
  return std::move(slots.object);
}

template <class Draw>
py::tuple sample_rows(const ReplayBuffer& buffer, std::size_t n, const py::object& out,
                      const Draw& draw) {
  const Target rows(buffer, n, out);
  const NewTensor<std::int64_t> slots = new_slots(n);
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    drawn = draw(slots.data);
    if (drawn) buffer.gather({slots.data, n}, rows.data);
  }
  if (!drawn) throw_nothing_to_draw(buffer);
  return py::make_tuple(slots.object, rows.object);
}

std::int64_t append(ReplayBuffer& buffer, const py::handle& object, const py::handle& weight) {
  const Borrowed rows(object, "rows");
  check_rows(buffer, rows);
  const std::size_t n = rows.shape(0);
  if (n > buffer.capacity()) {
    throw py::value_error("rows has " + std::to_string(n) + " rows, more than the capacity of " +
                          std::to_string(buffer.capacity()) + "; append them in parts");
  }
  const std::vector<double> weights =
      weight.is_none() ? std::vector{1.0} : to_weights(weight, n, "weight", "rows");
  const auto* numbers = static_cast<const float*>(rows.data);
  const py::gil_scoped_release release;
  std::vector<float> copy;  // of rows that the call itself may overwrite before it reads them
  if (n > 0 && is_own(buffer, numbers)) {
    copy.assign(numbers, numbers + n * buffer.width());
    numbers = copy.data();
  }
  return static_cast<std::int64_t>(buffer.append(numbers, n, weights));
}

void set_weights(ReplayBuffer& buffer, const py::handle& object, const py::handle& newer) {
  const bool allow_newer = to_flag(newer, "allow_newer");
  const Borrowed w(object, "w");
  check_vector(w);
  const std::size_t n = w.size(), size = buffer.size();
  if (n > size || (n < size && !allow_newer)) {
    throw py::value_error("w has " + std::to_string(n) + " entries; the buffer has " +
                          std::to_string(size) + " rows, so w must have shape [" +
                          std::to_string(size) + "]");
  }
  with_numbers(w, [&](const auto& weights) {
    bool good = false;
    {
      const py::gil_scoped_release release;
      good = buffer.set_weights(weights);
    }
    if (good) return;
    check_weights(weights.data(), weights.size());
    throw py::value_error("w changed while it was read; pass a copy of it");
  });
}

void update_weights(ReplayBuffer& buffer, const py::handle& idx, const py::handle& w) {
  const auto slots = to_slots(buffer, idx);
  const std::vector<double> weights = to_weights(w, slots.size(), "w", "indices");
  const py::gil_scoped_release release;
  buffer.update_weights(slots, weights);
}

py::object gather(const ReplayBuffer& buffer, const py::handle& idx, const py::object& out) {
  const auto slots = to_slots(buffer, idx);
  const Target rows(buffer, slots.size(), out);
  {
    const py::gil_scoped_release release;
    buffer.gather(slots, rows.data);
  }
  return rows.object;
}

py::array_t<double> weights_at(const ReplayBuffer& buffer, const py::handle& idx) {
  const auto slots = to_slots(buffer, idx);
  py::array_t<double> w(static_cast<py::ssize_t>(slots.size()));
  double* const numbers = w.mutable_data();
  {
    const py::gil_scoped_release release;
    buffer.weights_at(slots, numbers);
  }
  return w;
}

py::object newest(const ReplayBuffer& buffer, const py::handle& count) {
  const std::size_t n = to_count(count, "n");
  if (n > buffer.size()) {
    throw py::value_error("n is " + std::to_string(n) + "; the buffer holds only " +
                          std::to_string(buffer.size()) + " rows");
  }
  NewTensor<std::int64_t> slots = new_slots(n);
  {
    const py::gil_scoped_release release;
    buffer.newest(n, slots.data);
  }
  return std::move(slots.object);
}

void restore(ReplayBuffer& buffer, const py::handle& object, const py::handle& weights,
             std::uint64_t total_appended, std::uint64_t seed, std::uint64_t calls) {
  const Borrowed rows(object, "rows");
  check_rows(buffer, rows);
  const std::size_t n = rows.shape(0);
  const std::vector<double> w = to_weights(weights, n, "weights", "rows");
  if (n != std::min<std::uint64_t>(total_appended, buffer.capacity()) || w.size() != n) {
    throw py::value_error("the state has " + std::to_string(n) + " rows and " +
                          std::to_string(w.size()) + " weights, but " +
                          std::to_string(total_appended) + " rows were appended to a buffer of " +
                          std::to_string(buffer.capacity()));
  }
  const py::gil_scoped_release release;
  buffer.restore(static_cast<const float*>(rows.data), w, total_appended, seed, calls);
}

}  // namespace

void bind_replay(py::module_& m) {
  m.def("learn_tensor_type", &learn_tensor_type, py::arg("tensor"),
        "Take tensors of this type as arguments; called once with torch.Tensor.");
  py::class_<ReplayBuffer>(m, "ReplayBuffer")
      .def(py::init<std::size_t, std::size_t, std::uint64_t>(), py::arg("capacity"),
           py::arg("width"), py::arg("seed"))
      .def("append", &append, py::arg("rows"), py::arg("weight"))
      .def("set_weights", &set_weights, py::arg("w"), py::arg("allow_newer"))
      .def("update_weights", &update_weights, py::arg("idx"), py::arg("w"))
      .def(
          "draw",
          [](ReplayBuffer& b, const py::object& n, const py::object& stratified) {
            const std::size_t count = to_count(n, "n");
            const bool in_parts = to_flag(stratified, "stratified");
            return draw_slots(b, count,
                              [&](std::int64_t* s) { return b.draw(count, in_parts, s); });
          },
          py::arg("n"), py::arg("stratified"))
      .def(
          "draw_uniform",
          [](ReplayBuffer& b, const py::object& n) {
            const std::size_t count = to_count(n, "n");
            return draw_slots(b, count, [&](std::int64_t* s) { return b.draw_uniform(count, s); });
          },
          py::arg("n"))
      .def(
          "sample",
          [](ReplayBuffer& b, const py::object& n, const py::object& stratified,
             const py::object& out) {
            const std::size_t count = to_count(n, "n");
            const bool in_parts = to_flag(stratified, "stratified");
            return sample_rows(b, count, out,
                               [&](std::int64_t* s) { return b.draw(count, in_parts, s); });
          },
          py::arg("n"), py::arg("stratified"), py::arg("out") = py::none())
      .def(
          "sample_uniform",
          [](ReplayBuffer& b, const py::object& n, const py::object& out) {
            const std::size_t count = to_count(n, "n");
            return sample_rows(b, count, out,
                               [&](std::int64_t* s) { return b.draw_uniform(count, s); });
          },
          py::arg("n"), py::arg("out") = py::none())
      .def("gather", &gather, py::arg("idx"), py::arg("out") = py::none())
      .def("newest_indices", &newest, py::arg("n"))
      .def("rows",
           [](const py::object& self) {
             const auto& b = self.cast<const ReplayBuffer&>();
             // A view that keeps `self` alive.
             return py::array_t<float>({b.size(), b.width()}, b.data(), self);
           })
      .def("weights",
           [](const ReplayBuffer& b) {
             const std::size_t n = b.size();
             py::array_t<double> w(static_cast<py::ssize_t>(n));
             double* const numbers = w.mutable_data();
             {
               const py::gil_scoped_release release;
               b.weights(n, numbers);
             }
             return w;
           })
      .def("weights_at", &weights_at, py::arg("idx"))
      .def("restore", &restore, py::arg("rows"), py::arg("weights"), py::arg("total_appended"),
           py::arg("seed"), py::arg("calls"))
      .def("__len__", &ReplayBuffer::size)
      .def("effective_sample_size", &ReplayBuffer::effective_sample_size,
           py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("total_weight", &ReplayBuffer::total_weight)
      .def_property_readonly("total_appended", &ReplayBuffer::total_appended)
      .def_property_readonly("capacity", &ReplayBuffer::capacity)
      .def_property_readonly("width", &ReplayBuffer::width)
      .def_property_readonly("seed", &ReplayBuffer::seed)
      .def_property_readonly("calls", &ReplayBuffer::calls);

  m.def(
      "philox2x64",
      [](std::uint64_t key, std::uint64_t counter0, std::uint64_t counter1) {
        const auto block = replay::philox2x64(key, counter0, counter1);
        return py::make_tuple(block[0], block[1]);
      },
      py::arg("key"), py::arg("counter0"), py::arg("counter1"),
      "One block of Philox2x64-10, the generator behind every draw.");
}

}  // namespace tom
