#include "envs/simulator.h"

#include <algorithm>
#include <stdexcept>

#include "envs/no_timers.h"
#include "envs/quiet_log.h"
#include "envs/registry.h"

namespace tom::envs {

// What one call asks of the workers. Actions are in one of the two precisions.
struct Simulator::Call {
  Simulator* self;
  const float* single_actions = nullptr;
  const double* double_actions = nullptr;
  const std::uint8_t* restart = nullptr;
  const double* start = nullptr;
  bool write_rows = false;

  Action action(int env, int size) const {
    const std::size_t row = std::size_t(env) * size;
    return single_actions ? Action(single_actions + row, size) : Action(double_actions + row, size);
  }
};

Simulator::Simulator(const Config& config, const Arguments& args)
    : frame_skip_(config.frame_skip), max_episode_steps_(config.max_episode_steps) {
  const QuietLog quiet;
  char error[1000] = "";
  std::unique_ptr<mjModel, void (*)(mjModel*)> model(
      mj_loadXML(config.xml_path.c_str(), nullptr, error, sizeof error), mj_deleteModel);
  if (!model) throw std::invalid_argument("MuJoCo cannot load " + config.xml_path + ": " + error);
  task_ = make_task(config.task, model.get(), args);
  row_writer_ = std::make_unique<RowWriter>(config.num_envs, task_->observation_size(),
                                            static_cast<int>(model->nu));

  // One mjData per thread, not per simulation: the row of the integration state and the task's
  // memory are then everything that a simulation carries from one step to the next.
  mjBatchConfig batch_config;
  mjb_defaultConfig(&batch_config);
  batch_config.nthread = config.num_threads;
  batch_.reset(mjb_makeBatch(model.get(), config.num_envs, &batch_config, error, sizeof error));
  if (!batch_) throw std::invalid_argument(std::string("MuJoCo cannot make the batch: ") + error);

  dt_ = model->opt.timestep * frame_skip_;
  for (const InfoField& field : task_->info_fields()) info_size_ += field.size;
  const auto n = static_cast<std::size_t>(config.num_envs);
  memory.resize(n * task_->memory_size());
  elapsed.resize(n);
  observations.resize(n * task_->observation_size());
  final_observations.resize(observations.size());
  info.resize(n * info_size_);
  rewards.resize(n);
  terminations.resize(n);
  truncations.resize(n);
  troubles.resize(n);
}

// A forked child has none of the threads that MuJoCo would wait for, and keeps their batch.
Simulator::~Simulator() {
  if (getpid() != process_) static_cast<void>(batch_.release());
}

// Nothing here may need a destructor between MuJoCo's calls: an error in MuJoCo leaves by longjmp.
void Simulator::visit(const mjModel* m, mjData* d, int env, void* call_pointer) {
  NoTimers::on_this_thread();
  Call& call = *static_cast<Call*>(call_pointer);
  Simulator& self = *call.self;
  if (call.restart[env]) {
    self.begin_episode(m, d, env, call.start + std::size_t(env) * (m->nq + m->nv));
    return;
  }
  self.advance(m, d, env, call);
}

void Simulator::begin_episode(const mjModel* m, mjData* d, int env, const double* start) {
  mj_resetData(m, d);
  std::copy_n(start, m->nq, d->qpos);
  std::copy_n(start + m->nq, m->nv, d->qvel);
  mj_forward(m, d);
  elapsed[env] = 0;
  task_->observe(m, d, &observations[std::size_t(env) * task_->observation_size()]);
  task_->remember(m, d, memory.data() + std::size_t(env) * task_->memory_size());
  double* const own_info = info.data() + std::size_t(env) * info_size_;
  std::fill(task_->locate(m, d, own_info), own_info + info_size_, 0.0);
}

void Simulator::advance(const mjModel* m, mjData* d, int env, const Call& call) {
  const Action action = call.action(env, static_cast<int>(m->nu));
  // Cleared, so that what is counted below happened in this step.
  for (int kind : {mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC, mjWARN_BADCTRL}) {
    d->warning[kind].number = 0;
  }
  action.write_to(d->ctrl);
  for (int i = 0; i < frame_skip_; ++i) mj_step(m, d);
  // Contact forces; after a step only, as in Gymnasium, and only for tasks that look at them.
  if (task_->needs_contact_forces()) mj_rnePostConstraint(m, d);

  const std::size_t size = task_->observation_size();
  double* current = &observations[env * size];
  double* next = &final_observations[env * size];
  double* own_memory = memory.data() + std::size_t(env) * task_->memory_size();
  double* own_info = info.data() + std::size_t(env) * info_size_;
  task_->observe(m, d, next);
  double* rest = task_->locate(m, d, own_info);
  const Outcome outcome = task_->evaluate({m, d, action, own_memory, dt_}, rest);
  task_->remember(m, d, own_memory);
  if (call.write_rows) {
    row_writer_->write(env, current, action, next, outcome.reward, outcome.terminated);
  }
  std::copy_n(next, size, current);
  rewards[env] = outcome.reward;
  terminations[env] = outcome.terminated;
  truncations[env] = ++elapsed[env] >= max_episode_steps_ && max_episode_steps_ > 0;
  if (d->warning[mjWARN_BADCTRL].number) troubles[env] |= kBadControl;
  if (d->warning[mjWARN_BADQPOS].number || d->warning[mjWARN_BADQVEL].number ||
      d->warning[mjWARN_BADQACC].number) {
    troubles[env] |= kUnstable;
  }
}

// MuJoCo raised an error, and the simulation is where it was: its episode ends there.
void Simulator::end_failed(int env, const Call& call) {
  const std::size_t size = task_->observation_size();
  const double* current = &observations[env * size];
  std::copy_n(current, size, &final_observations[env * size]);
  if (call.write_rows && !call.restart[env]) {
    const Action action = call.action(env, static_cast<int>(model()->nu));
    row_writer_->write(env, current, action, current, 0.0, true);
  }
  std::fill_n(info.data() + std::size_t(env) * info_size_, info_size_, 0.0);
  rewards[env] = 0.0;
  terminations[env] = 1;
  truncations[env] = 0;
  troubles[env] |= kError;
}

int Simulator::apply(const int* ids, int count, Call& call) {
  const QuietLog quiet;
  const NoTimers no_timers;
  return mjb_apply(batch_.get(), ids, count, visit, &call, /*save=*/1);
}

template <typename T>
Simulator::Counts Simulator::step(const T* actions, const std::uint8_t* restart,
                                  const double* start, replay::ReplayBuffer* into) {
  std::fill(rewards.begin(), rewards.end(), 0.0);
  std::fill(terminations.begin(), terminations.end(), 0);
  std::fill(truncations.begin(), truncations.end(), 0);
  std::fill(troubles.begin(), troubles.end(), 0);
  Call call{.self = this, .restart = restart, .start = start, .write_rows = into != nullptr};
  if constexpr (std::is_same_v<T, float>) {
    call.single_actions = actions;
  } else {
    call.double_actions = actions;
  }
  if (into) row_writer_->begin(*into, restart);
  if (apply(nullptr, 0, call) > 0) {
    const int* status = mjb_status(batch_.get());
    for (int env = 0; env < num_envs(); ++env) {
      if (status[env]) end_failed(env, call);
    }
  }
  if (into) row_writer_->end();
  const std::size_t size = task_->observation_size();
  Counts counts{0, 0};
  for (int env = 0; env < num_envs(); ++env) {
    if (restart[env]) {
      std::copy_n(&observations[env * size], size, &final_observations[env * size]);
    }
    counts.troubled += troubles[env] != kNone;
    counts.ended += terminations[env] || truncations[env];
  }
  return counts;
}
template Simulator::Counts Simulator::step(const float*, const std::uint8_t*, const double*,
                                           replay::ReplayBuffer*);
template Simulator::Counts Simulator::step(const double*, const std::uint8_t*, const double*,
                                           replay::ReplayBuffer*);

int Simulator::reset(const std::uint8_t* chosen, const double* start) {
  std::vector<int> ids;
  for (int env = 0; env < num_envs(); ++env) {
    if (chosen[env]) ids.push_back(env);
  }
  if (ids.empty()) return 0;
  Call call{.self = this, .restart = chosen, .start = start};
  return apply(ids.data(), static_cast<int>(ids.size()), call);
}

template <typename T>
void Simulator::terminated(const T* observations, std::int64_t n, bool* out) const {
  const int size = task_->observation_size();
  std::vector<double> row(size), scratch(task_->scratch_size());
  for (std::int64_t i = 0; i < n; ++i) {
    std::copy_n(observations + i * size, size, row.data());
    out[i] = task_->terminated_at(row.data(), scratch.data());
  }
}
template void Simulator::terminated(const float*, std::int64_t, bool*) const;
template void Simulator::terminated(const double*, std::int64_t, bool*) const;

}  // namespace tom::envs
