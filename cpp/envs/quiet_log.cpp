#include "envs/quiet_log.h"

#include <mujoco/mujoco.h>

#include "envs/shared_setting.h"

namespace tom::envs {
namespace {

SharedSetting setting;
mjLogConfig saved;

}  // namespace

QuietLog::QuietLog() {
  setting.acquire([] {
    saved = mju_getLogConfig();
    mjLogConfig quiet = saved;
    quiet.logto_console = 0;
    quiet.logto_file = 0;
    mju_setLogConfig(quiet);
  });
}

QuietLog::~QuietLog() {
  setting.release([] { mju_setLogConfig(saved); });
}

}  // namespace tom::envs
