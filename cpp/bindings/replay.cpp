// tom._native.ReplayBuffer: NumPy arrays in and out. Python (tom/replay.py) turns them into
// tensors.
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
Slots draw_slots(const ReplayBuffer& buffer, std::size_t n, const Draw& draw) {
  Slots slots(static_cast<py::ssize_t>(n));
  std::int64_t* const out = slots.mutable_data();
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    drawn = draw(out);
  }
  if (!drawn) throw_nothing_to_draw(buffer);
  return slots;
}

template <class Draw>
py::tuple sample_rows(const ReplayBuffer& buffer, std::size_t n, const py::object& out,
                      const Draw& draw) {
  Rows rows = rows_for(buffer, n, out);
  Slots slots(static_cast<py::ssize_t>(n));
  std::int64_t* const to_slots = slots.mutable_data();
  float* const to_rows = rows.mutable_data();
  bool drawn = false;
  {
    const py::gil_scoped_release release;
    drawn = draw(to_slots);
    if (drawn) buffer.gather({to_slots, n}, to_rows);
  }
  if (!drawn) throw_nothing_to_draw(buffer);
  return py::make_tuple(slots, rows);
}

std::int64_t append(ReplayBuffer& buffer, const py::array& rows, const py::array& weight) {
  const float* const from = to_rows(buffer, rows, "rows");
  const auto n = static_cast<std::size_t>(rows.shape(0));
  if (n > buffer.capacity()) {
    throw py::value_error("rows has " + std::to_string(n) + " rows, more than the capacity of " +
                          std::to_string(buffer.capacity()) + "; append them in parts");
  }
  const std::vector<double> weights = to_weights(weight, n, "rows");
  const py::gil_scoped_release release;
  return static_cast<std::int64_t>(buffer.append(from, n, weights));
}

template <class T>
void set_weights(ReplayBuffer& buffer, const py::array& w) {
  const std::span<const T> weights(static_cast<const T*>(w.data()),
                                   static_cast<std::size_t>(w.size()));
  bool good = false;
  {
    const py::gil_scoped_release release;
    good = buffer.set_weights(weights);
  }
  if (!good) check_weights(weights.data(), weights.size());
}

void set_all_weights(ReplayBuffer& buffer, const py::array& w, bool allow_newer) {
  check_vector(w, "w");
  const auto n = static_cast<std::size_t>(w.size());
  const std::size_t size = buffer.size();
  if (n > size || (n < size && !allow_newer)) {
    throw py::value_error("w has " + std::to_string(n) + " entries; the buffer has " +
                          std::to_string(size) + " rows, so w must have shape [" +
                          std::to_string(size) + "]");
  }
  if (py::isinstance<py::array_t<float>>(w)) return set_weights<float>(buffer, w);
  check_dtype<double>(w, "w", "float32 or float64");
  set_weights<double>(buffer, w);
}

void update_weights(ReplayBuffer& buffer, const py::array& idx, const py::array& w) {
  const auto slots = to_slots(buffer, idx);
  const std::vector<double> weights = to_weights(w, slots.size(), "indices");
  const py::gil_scoped_release release;
  buffer.update_weights(slots, weights);
}

Rows gather(const ReplayBuffer& buffer, const py::array& idx, const py::object& out) {
  const auto slots = to_slots(buffer, idx);
  Rows rows = rows_for(buffer, slots.size(), out);
  float* const to = rows.mutable_data();
  {
    const py::gil_scoped_release release;
    buffer.gather(slots, to);
  }
  return rows;
}

Slots newest(const ReplayBuffer& buffer, const py::handle& count) {
  const std::size_t n = to_count(count, "n");
  if (n > buffer.size()) {
    throw py::value_error("n is " + std::to_string(n) + "; the buffer holds only " +
                          std::to_string(buffer.size()) + " rows");
  }
  Slots slots(static_cast<py::ssize_t>(n));
  buffer.newest(n, slots.mutable_data());
  return slots;
}

void restore(ReplayBuffer& buffer, const py::array& rows, const py::array& weights,
             std::uint64_t total_appended, std::uint64_t seed, std::uint64_t calls) {
  const float* const from = to_rows(buffer, rows, "rows");
  const auto n = static_cast<std::size_t>(rows.shape(0));
  const std::vector<double> w = to_weights(weights, n, "rows");
  if (n != std::min<std::uint64_t>(total_appended, buffer.capacity()) || w.size() != n) {
    throw py::value_error("the state has " + std::to_string(n) + " rows and " +
                          std::to_string(w.size()) + " weights, but " +
                          std::to_string(total_appended) + " rows were appended to a buffer of " +
                          std::to_string(buffer.capacity()));
  }
  const py::gil_scoped_release release;
  buffer.restore(from, w, total_appended, seed, calls);
}

}  // namespace

void bind_replay(py::module_& m) {
  py::class_<ReplayBuffer>(m, "ReplayBuffer")
      .def(py::init<std::size_t, std::size_t, std::uint64_t>(), py::arg("capacity"),
           py::arg("width"), py::arg("seed"))
      .def("append", &append, py::arg("rows"), py::arg("weight"))
      .def("set_weights", &set_all_weights, py::arg("w"), py::arg("allow_newer"))
      .def("update_weights", &update_weights, py::arg("idx"), py::arg("w"))
      .def(
          "draw",
          [](ReplayBuffer& b, const py::object& n, bool stratified) {
            const std::size_t count = to_count(n, "n");
            return draw_slots(b, count,
                              [&](std::int64_t* s) { return b.draw(count, stratified, s); });
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
          [](ReplayBuffer& b, const py::object& n, bool stratified, const py::object& out) {
            const std::size_t count = to_count(n, "n");
            return sample_rows(b, count, out,
                               [&](std::int64_t* s) { return b.draw(count, stratified, s); });
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
             return Rows({b.size(), b.width()}, b.data(), self);  // a view that keeps `self` alive
           })
      .def("weights",
           [](const ReplayBuffer& b) {
             py::array_t<double> w(static_cast<py::ssize_t>(b.size()));
             b.weights(static_cast<std::size_t>(w.size()), w.mutable_data());
             return w;
           })
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
