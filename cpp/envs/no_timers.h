// Keeps MuJoCo from timing the simulator's steps while it lives.
//
// MuJoCo times the parts of mj_step with the callback mjcb_time, if there is one, and the `mujoco`
// Python package installs one when it is imported: dozens of readings of the clock per mj_step,
// which take a tenth of a step of Ant and a fifth of one of Hopper. Nobody can see the timers of
// the simulator's mjData, so its threads are told that it is always 0 o'clock; all other threads
// get the time from the callback that was there. The callback is the process's, so uses are
// counted, as for QuietLog.
#pragma once

namespace tom::envs {

class NoTimers {
 public:
  NoTimers();
  ~NoTimers();
  NoTimers(const NoTimers&) = delete;
  NoTimers& operator=(const NoTimers&) = delete;

  // Says that this thread works for the simulator: a thread of MuJoCo's pool for good, the thread
  // that made the NoTimers until that is gone.
  static void on_this_thread();
};

}  // namespace tom::envs
