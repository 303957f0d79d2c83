// A task: what a simulation observes, what it earns, and when its episode ends.
//
// A task holds no state of a simulation, so one object serves all of them, on any thread. What a
// step needs from the step before (a position, to make a velocity) is kept in a few numbers per
// simulation, its "memory"; with the physics state and the elapsed steps it is all there is to
// save.
#pragma once

#include <mujoco/mujoco.h>

#include <memory>
#include <string>
#include <vector>

#include "envs/action.h"
#include "envs/arguments.h"

namespace tom::envs {

enum class InfoType {
  kFloat64,
  kInt64,
  kActionType,  // float32 for float32 actions, as NumPy's promotion gives it
};

// One entry of Gymnasium's `info`.
struct InfoField {
  std::string name;
  bool at_reset = false;  // reported by reset too; such fields come first
  InfoType type = InfoType::kFloat64;
  int size = 1;         // columns
  bool vector = false;  // an array even when it has one column
};

// What a task sees of a step that has just been simulated.
struct Step {
  const mjModel* model;
  const mjData* data;
  const Action& action;
  const double* memory;  // what `remember` wrote before the step
  double dt;             // seconds per step
};

struct Outcome {
  double reward;
  bool terminated;
};

class Task {
 public:
  virtual ~Task() = default;

  int observation_size() const { return observation_size_; }
  int memory_size() const { return memory_size_; }
  // Whether observation or reward read mjData's contact forces, which MuJoCo computes on request.
  bool needs_contact_forces() const { return needs_contact_forces_; }
  const std::vector<InfoField>& info_fields() const { return info_fields_; }

  // Writes observation_size() numbers. By default positions, then velocities.
  virtual void observe(const mjModel* m, const mjData* d, double* observation) const;

  // Writes memory_size() numbers that the next step will need.
  virtual void remember(const mjModel* m, const mjData* d, double* memory) const;

  // Writes the info fields that a reset reports too; returns the place of the next field.
  virtual double* locate(const mjModel* m, const mjData* d, double* info) const;

  // Writes the remaining info fields at `info`; returns reward and termination.
  virtual Outcome evaluate(const Step& step, double* info) const = 0;

  // The termination rule, on [nq] positions and [nv] velocities. By default an episode does not
  // terminate.
  virtual bool terminated(const double* qpos, const double* qvel) const;

  // The termination rule on an observation alone. By default `terminated` on the positions and
  // velocities that begin the observation, the hidden positions being 0. `scratch` holds
  // scratch_size() numbers.
  virtual bool terminated_at(const double* observation, double* scratch) const;
  int scratch_size() const { return nq_; }

 protected:
  // The first `hidden` positions are left out of the observation. Throws std::invalid_argument if
  // the model has fewer positions or velocities than the task reads.
  Task(const mjModel* m, const Arguments& args, int hidden, int least_positions,
       int least_velocities = 0);

  double* write_positions(const mjData* d, double* out) const;
  double* write_velocities(const mjData* d, double* out) const;

  const int nq_, nv_, hidden_;
  const NumpyNorm norm_;
  int observation_size_;
  int memory_size_ = 0;
  bool needs_contact_forces_ = false;
  std::vector<InfoField> info_fields_;
};

}  // namespace tom::envs
