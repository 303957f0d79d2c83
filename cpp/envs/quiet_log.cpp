#include "envs/quiet_log.h"

#include <mujoco/mujoco.h>
#include <pthread.h>

#include <mutex>

namespace tom::envs {
namespace {

std::mutex mutex;  // guards what follows
int users = 0;
mjLogConfig saved;

void undo() {
  if (users > 0 && --users == 0) mju_setLogConfig(saved);
}

// A forked child has none of the other threads: the mutex must not be held by one of them, and of
// the users none is left to undo the change.
[[maybe_unused]] const int at_fork = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); },
                                                    [] {
                                                      while (users > 0) undo();
                                                      mutex.unlock();
                                                    });

}  // namespace

QuietLog::QuietLog() {
  const std::lock_guard<std::mutex> guard(mutex);
  if (users++ > 0) return;
  saved = mju_getLogConfig();
  mjLogConfig quiet = saved;
  quiet.logto_console = 0;
  quiet.logto_file = 0;
  mju_setLogConfig(quiet);
}

QuietLog::~QuietLog() {
  const std::lock_guard<std::mutex> guard(mutex);
  undo();
}

}  // namespace tom::envs
