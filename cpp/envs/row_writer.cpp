#include "envs/row_writer.h"

#include <algorithm>
#include <array>

namespace tom::envs {

RowWriter::RowWriter(int num_envs, int observation_size, int action_size)
    : observation_size_(observation_size),
      action_size_(action_size),
      position_(num_envs),
      rows_(static_cast<std::size_t>(num_envs) * width()) {}

void RowWriter::begin(replay::ReplayBuffer& into, const std::uint8_t* restart) {
  into_ = &into;
  count_ = 0;
  for (std::size_t env = 0; env < position_.size(); ++env) {
    position_[env] = static_cast<std::uint32_t>(count_);
    count_ += restart[env] == 0;
  }
  first_ = into.claim(count_);
}

void RowWriter::write(int env, const double* observation, const Action& action,
                      const double* next_observation, double reward, bool terminated) {
  float* const row = &rows_[static_cast<std::size_t>(env) * width()];
  float* out = std::copy_n(observation, observation_size_, row);
  out = action.write_to(out);
  out = std::copy_n(next_observation, observation_size_, out);
  *out++ = static_cast<float>(reward);
  *out = terminated ? 1.0f : 0.0f;
  into_->write(first_ + position_[env], row);
}

void RowWriter::end() {
  constexpr std::array<double, 1> kOne = {1.0};
  into_->publish(first_, count_, kOne);
  into_ = nullptr;
}

}  // namespace tom::envs
