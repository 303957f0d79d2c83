// Many simulations of one task, stepped together on MuJoCo's thread pool.
//
// Physics, observation, reward, termination and time limit of a simulation are computed in one
// function on one worker (mjb_apply). The results do not depend on the number of threads, because
// a simulation touches only its own rows and MuJoCo's batch gives it the same state on any thread.
//
// The caller checks arguments and lets one thread at a time call step and reset.
#pragma once

#include <mujoco/mjbatch.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "envs/row_writer.h"
#include "envs/task.h"

namespace tom::envs {

class Simulator {
 public:
  struct Config {
    std::string task;
    std::string xml_path;
    int num_envs;
    int num_threads;
    int frame_skip;
    std::int64_t max_episode_steps;  // 0: no limit
  };

  // What went wrong in a simulation's last step.
  enum Trouble : std::uint8_t { kNone = 0, kUnstable = 1, kBadControl = 2, kError = 4 };

  // Throws std::invalid_argument for a model or argument that MuJoCo or the task refuses.
  Simulator(const Config& config, const Arguments& args);
  ~Simulator();

  // How many simulations had trouble in a step, and how many episodes ended.
  struct Counts {
    int troubled, ended;
  };

  // Steps every simulation by one action, [N, nu] in row order; the simulations whose `restart`
  // is not 0 start a new episode instead, from their row of `start` [N, nq + nv]. `into`, if any,
  // gets the transitions, in the order of the simulations; it has width row_width() and a capacity
  // of at least N.
  template <typename T>
  Counts step(const T* actions, const std::uint8_t* restart, const double* start,
              replay::ReplayBuffer* into);
  int row_width() const { return row_writer_->width(); }

  // Starts a new episode in the simulations whose `chosen` is not 0. Returns the number that
  // MuJoCo could not start; they keep their state.
  int reset(const std::uint8_t* chosen, const double* start);

  // The task's termination rule on `n` observations, [n, observation_size].
  template <typename T>
  void terminated(const T* observations, std::int64_t n, bool* out) const;

  const mjModel* model() const { return mjb_model(batch_.get()); }
  const Task& task() const { return *task_; }
  int num_envs() const { return mjb_nsim(batch_.get()); }
  int num_threads() const { return mjb_nthread(batch_.get()); }
  double dt() const { return dt_; }
  std::string error(int env) const { return mjb_error(batch_.get(), env); }

  // The state of a simulation is its row in these three and its row of `observations`.
  double* physics() { return mjb_state(batch_.get()); }
  int physics_size() const { return mjb_nstate(batch_.get()); }
  std::vector<double> memory;         // [N, memory_size]
  std::vector<std::int64_t> elapsed;  // [N] steps of the current episode

  // Results of the last call.
  std::vector<double> observations;        // [N, observation_size] where each simulation now is
  std::vector<double> final_observations;  // [N, observation_size] where its last step led
  std::vector<double> info;     // [N, info_size], the task's fields in order; 0 what a reset omits
  std::vector<double> rewards;  // [N]
  std::vector<std::uint8_t> terminations, truncations, troubles;  // [N]
  int info_size() const { return info_size_; }

 private:
  struct Call;
  static void visit(const mjModel* m, mjData* d, int env, void* call);
  void begin_episode(const mjModel* m, mjData* d, int env, const double* start);
  void advance(const mjModel* m, mjData* d, int env, const Call& call);
  void end_failed(int env, const Call& call);
  int apply(const int* ids, int count, Call& call);

  struct BatchDeleter {
    void operator()(mjBatch* b) const { mjb_deleteBatch(b); }
  };
  std::unique_ptr<mjBatch, BatchDeleter> batch_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<RowWriter> row_writer_;
  int frame_skip_;
  std::int64_t max_episode_steps_;
  double dt_;
  int info_size_ = 0;
  pid_t process_ = getpid();
};

}  // namespace tom::envs
