// tom._native.Simulator: checks shapes and types, releases the GIL, forwards.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/module.h"
#include "envs/no_timers.h"
#include "envs/registry.h"
#include "envs/simulator.h"

namespace py = pybind11;

namespace tom {
namespace {

using envs::Arguments;
using envs::InfoType;
using envs::Simulator;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;  // arguments are bound with noconvert()

std::string describe(const std::vector<py::ssize_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

void require_shape(const py::array& array, const char* name,
                   const std::vector<py::ssize_t>& wanted) {
  const std::vector<py::ssize_t> given(array.shape(), array.shape() + array.ndim());
  if (given == wanted) return;
  throw py::value_error(std::string(name) + " has shape " + describe(given) + ", but it must be " +
                        describe(wanted) + ".");
}

Arguments to_arguments(const py::dict& dict) {
  Arguments args;
  for (const auto& [key, value] : dict) {
    const auto name = py::cast<std::string>(key);
    if (py::isinstance<py::bool_>(value)) {
      args.set(name, py::cast<bool>(value));
    } else if (py::isinstance<py::str>(value)) {
      args.set(name, py::cast<std::string>(value));
    } else if (py::isinstance<py::tuple>(value)) {
      args.set(name, py::cast<envs::Range>(value));
    } else {
      args.set(name, py::cast<double>(value));
    }
  }
  return args;
}

std::unique_ptr<Simulator> make_simulator(const std::string& task, const std::string& xml_path,
                                          const py::dict& arguments, int num_envs, int num_threads,
                                          int frame_skip, std::int64_t max_episode_steps) {
  if (num_envs < 1 || num_threads < 1 || frame_skip < 1 || max_episode_steps < 0) {
    throw py::value_error(
        "num_envs, num_threads and frame_skip must be at least 1, and max_episode_steps at "
        "least 0.");
  }
  const Arguments args = to_arguments(arguments);
  py::gil_scoped_release release;
  return std::make_unique<Simulator>(
      Simulator::Config{task, xml_path, num_envs, num_threads, frame_skip, max_episode_steps},
      args);
}

void check_buffer(const Simulator& self, const replay::ReplayBuffer& into) {
  const auto n = self.num_envs();
  if (static_cast<int>(into.width()) != self.row_width()) {
    throw py::value_error("the buffer's rows have " + std::to_string(into.width()) +
                          " numbers, but a row [s | a | s' | r | terminated] of this environment "
                          "has " +
                          std::to_string(self.row_width()) + ".");
  }
  if (into.capacity() < static_cast<std::size_t>(n)) {
    throw py::value_error("the buffer's capacity is " + std::to_string(into.capacity()) +
                          ", but it must hold the rows of one step, " + std::to_string(n) + ".");
  }
}

template <typename T>
py::tuple step(Simulator& self, const Array<T>& actions, const Array<bool>& restart,
               const Array<double>& start, replay::ReplayBuffer* into) {
  const auto n = self.num_envs();
  const auto* m = self.model();
  require_shape(actions, "actions", {n, m->nu});
  require_shape(restart, "restart", {n});
  require_shape(start, "start", {n, m->nq + m->nv});
  if (into) check_buffer(self, *into);
  const auto* mask = reinterpret_cast<const std::uint8_t*>(restart.data());
  Simulator::Counts counts;
  {
    py::gil_scoped_release release;
    counts = self.step(actions.data(), mask, start.data(), into);
  }
  return py::make_tuple(counts.troubled, counts.ended);
}

int reset(Simulator& self, const Array<bool>& chosen, const Array<double>& start) {
  require_shape(chosen, "chosen", {self.num_envs()});
  require_shape(start, "start", {self.num_envs(), self.model()->nq + self.model()->nv});
  const auto* mask = reinterpret_cast<const std::uint8_t*>(chosen.data());
  py::gil_scoped_release release;
  return self.reset(mask, start.data());
}

template <typename T>
Array<bool> terminated(const Simulator& self, const Array<T>& observations) {
  const py::ssize_t n = observations.ndim() == 2 ? observations.shape(0) : 0;
  require_shape(observations, "observations", {n, self.task().observation_size()});
  Array<bool> out(n);
  bool* flags = out.mutable_data();
  const T* rows = observations.data();
  py::gil_scoped_release release;
  self.terminated(rows, n, flags);
  return out;
}

// Live [N, columns] view of memory that the simulator owns; columns = 0 makes it [N].
template <typename T>
py::array view(const py::object& self, T* data, py::ssize_t rows, py::ssize_t columns) {
  const std::vector<py::ssize_t> shape =
      columns ? std::vector<py::ssize_t>{rows, columns} : std::vector<py::ssize_t>{rows};
  return py::array_t<T>(shape, data, self);
}

py::array bool_view(const py::object& self, std::vector<std::uint8_t>& flags) {
  return view(self, flags.data(), static_cast<py::ssize_t>(flags.size()), 0).view("bool");
}

template <typename F>
auto matrix(F member_and_width) {
  return [=](const py::object& self) {
    auto& simulator = py::cast<Simulator&>(self);
    auto [data, width] = member_and_width(simulator);
    return py::array_t<double>({py::ssize_t(simulator.num_envs()), py::ssize_t(width)}, data, self);
  };
}

py::list info_fields(const Simulator& self) {
  static const char* const kinds[] = {"float64", "int64", "action"};
  py::list fields;
  for (const auto& field : self.task().info_fields()) {
    fields.append(py::make_tuple(field.name, field.at_reset, kinds[static_cast<int>(field.type)],
                                 field.size, field.vector));
  }
  return fields;
}

// [nu, 2], as the model gives it
py::array control_range(const Simulator& self) {
  const auto* m = self.model();
  return py::array_t<double>({py::ssize_t(m->nu), py::ssize_t(2)}, m->actuator_ctrlrange);
}

py::array initial_positions(const Simulator& self) {
  return py::array_t<double>(self.model()->nq, self.model()->qpos0);
}

}  // namespace

void bind_envs(py::module_& m) {
  envs::NoTimers::set_hook();
  m.def("task_names", &envs::task_names);
  py::class_<Simulator>(m, "Simulator")
      .def(py::init(&make_simulator), py::kw_only(), py::arg("task"), py::arg("xml_path"),
           py::arg("arguments"), py::arg("num_envs"), py::arg("num_threads"), py::arg("frame_skip"),
           py::arg("max_episode_steps"))
      .def("step", &step<float>, py::arg("actions").noconvert(), py::arg("restart").noconvert(),
           py::arg("start").noconvert(), py::arg("into") = py::none())
      .def("step", &step<double>, py::arg("actions").noconvert(), py::arg("restart").noconvert(),
           py::arg("start").noconvert(), py::arg("into") = py::none())
      .def("check_buffer", &check_buffer, py::arg("into"))
      .def("reset", &reset, py::arg("chosen").noconvert(), py::arg("start").noconvert())
      .def("terminated", &terminated<float>, py::arg("observations").noconvert())
      .def("terminated", &terminated<double>, py::arg("observations").noconvert())
      .def("error", &Simulator::error, py::arg("env"))
      .def_property_readonly("num_threads", &Simulator::num_threads)
      .def_property_readonly("dt", &Simulator::dt)
      .def_property_readonly("nq", [](const Simulator& s) { return s.model()->nq; })
      .def_property_readonly("nv", [](const Simulator& s) { return s.model()->nv; })
      .def_property_readonly("info_fields", &info_fields)
      .def_property_readonly("control_range", &control_range)
      .def_property_readonly("initial_positions", &initial_positions)
      .def_property_readonly(
          "physics", matrix([](Simulator& s) { return std::pair{s.physics(), s.physics_size()}; }))
      .def_property_readonly("memory", matrix([](Simulator& s) {
                               return std::pair{s.memory.data(), s.task().memory_size()};
                             }))
      .def_property_readonly("observations", matrix([](Simulator& s) {
                               return std::pair{s.observations.data(), s.task().observation_size()};
                             }))
      .def_property_readonly("final_observations", matrix([](Simulator& s) {
                               return std::pair{s.final_observations.data(),
                                                s.task().observation_size()};
                             }))
      .def_property_readonly(
          "info", matrix([](Simulator& s) { return std::pair{s.info.data(), s.info_size()}; }))
      .def_property_readonly("elapsed",
                             [](const py::object& self) {
                               auto& s = py::cast<Simulator&>(self);
                               return view(self, s.elapsed.data(), s.num_envs(), 0);
                             })
      .def_property_readonly("rewards",
                             [](const py::object& self) {
                               auto& s = py::cast<Simulator&>(self);
                               return view(self, s.rewards.data(), s.num_envs(), 0);
                             })
      .def_property_readonly("terminations",
                             [](const py::object& self) {
                               return bool_view(self, py::cast<Simulator&>(self).terminations);
                             })
      .def_property_readonly("truncations",
                             [](const py::object& self) {
                               return bool_view(self, py::cast<Simulator&>(self).truncations);
                             })
      .def_property_readonly("troubles", [](const py::object& self) {
        auto& s = py::cast<Simulator&>(self);
        return view(self, s.troubles.data(), s.num_envs(), 0);
      });
}

}  // namespace tom
