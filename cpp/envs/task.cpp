#include "envs/task.h"

#include <algorithm>
#include <stdexcept>

namespace tom::envs {

Task::Task(const mjModel* m, const Arguments& args, int hidden, int least_positions,
           int least_velocities)
    : nq_(static_cast<int>(m->nq)),
      nv_(static_cast<int>(m->nv)),
      hidden_(hidden),
      norm_{args.flag("blas_fuses")},
      observation_size_(nq_ - hidden + nv_) {
  if (nq_ >= least_positions && nv_ >= least_velocities) return;
  throw std::invalid_argument("xml_file's model has " + std::to_string(nq_) + " positions and " +
                              std::to_string(nv_) + " velocities, but the task needs at least " +
                              std::to_string(least_positions) + " and " +
                              std::to_string(least_velocities) + ".");
}

double* Task::write_positions(const mjData* d, double* out) const {
  return std::copy(d->qpos + hidden_, d->qpos + nq_, out);
}

double* Task::write_velocities(const mjData* d, double* out) const {
  return std::copy(d->qvel, d->qvel + nv_, out);
}

void Task::observe(const mjModel*, const mjData* d, double* observation) const {
  write_velocities(d, write_positions(d, observation));
}

void Task::remember(const mjModel*, const mjData*, double*) const {}

double* Task::locate(const mjModel*, const mjData*, double* info) const { return info; }

bool Task::terminated(const double*, const double*) const { return false; }

bool Task::terminated_at(const double* observation, double* scratch) const {
  std::fill_n(scratch, hidden_, 0.0);
  std::copy_n(observation, nq_ - hidden_, scratch + hidden_);
  return terminated(scratch, observation + (nq_ - hidden_));
}

}  // namespace tom::envs
