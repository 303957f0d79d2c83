#include "envs/no_timers.h"

#include <mujoco/mujoco.h>

#include "envs/shared_setting.h"

namespace tom::envs {
namespace {

SharedSetting setting;
mjfTime saved = nullptr;
thread_local bool untimed = false;

// Another thread may have fetched this function just before it is replaced again: `saved` stays.
mjtNum time_for_others() { return untimed ? 0.0 : saved(); }

}  // namespace

NoTimers::NoTimers() {
  setting.acquire([] {
    if (!mjcb_time) return;
    saved = mjcb_time;
    mjcb_time = time_for_others;
  });
}

NoTimers::~NoTimers() {
  untimed = false;
  setting.release([] {
    if (mjcb_time == time_for_others) mjcb_time = saved;
  });
}

void NoTimers::on_this_thread() { untimed = true; }

}  // namespace tom::envs
