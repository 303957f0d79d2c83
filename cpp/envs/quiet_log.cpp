#include "envs/quiet_log.h"

#include <mujoco/mujoco.h>

#include <mutex>

namespace tom::envs {
namespace {

std::mutex mutex;
int users = 0;
mjLogConfig saved;

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
  if (--users == 0) mju_setLogConfig(saved);
}

}  // namespace tom::envs
