// Writes the transitions of one step straight into a replay buffer.
//
// The rows [s | a | s' | r | terminated] (float32) of one step are neighbours, in the order of the
// simulations, whichever worker writes which. A simulation that starts a new episode makes no
// transition and gets no row.
#pragma once

#include <cstdint>
#include <vector>

#include "envs/action.h"
#include "replay/replay_buffer.h"

namespace tom::envs {

class RowWriter {
 public:
  RowWriter(int num_envs, int observation_size, int action_size);

  int width() const { return 2 * observation_size_ + action_size_ + 2; }

  // Before the step: reserves a row for each simulation whose `restart` is 0. The caller has
  // checked that the buffer has this width and a capacity of at least the number of simulations.
  void begin(replay::ReplayBuffer& into, const std::uint8_t* restart);

  // On a worker, or on the caller for a simulation that failed: writes a simulation's row, once.
  void write(int env, const double* observation, const Action& action,
             const double* next_observation, double reward, bool terminated);

  // After every row has been written: makes them drawable, with weight 1.
  void end();

 private:
  const int observation_size_, action_size_;
  replay::ReplayBuffer* into_ = nullptr;
  std::uint64_t first_ = 0;              // ticket of the first row
  std::size_t count_ = 0;                // rows of this step
  std::vector<std::uint32_t> position_;  // [N] place among them
  std::vector<float> rows_;              // [N, width] where workers put rows together
};

}  // namespace tom::envs
