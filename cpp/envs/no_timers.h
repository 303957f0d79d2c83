// Keeps MuJoCo from timing the simulator's steps while it lives.
//
// MuJoCo times the parts of mj_step with the callback mjcb_time, if there is one, and the `mujoco`
// Python package installs one when it is imported: dozens of readings of the clock per mj_step,
// which take a tenth of a step of Ant and a fifth of one of Hopper. Nobody can see the timers of
// the simulator's mjData, so its threads are told that it is always 0 o'clock.
//
// For that a hook takes the callback's place and stays there, because the threads of others read
// mjcb_time at any time and without a lock; they get the time from the callback that was there. The
// first hook is set when the extension is loaded, the next when a step finds that somebody has set
// another callback.
#pragma once

namespace tom::envs {

class NoTimers {
 public:
  NoTimers() { set_hook(); }
  ~NoTimers();
  NoTimers(const NoTimers&) = delete;
  NoTimers& operator=(const NoTimers&) = delete;

  // Puts a hook before the present callback, unless that is one.
  static void set_hook();

  // Says that this thread works for the simulator: a thread of MuJoCo's pool for good, the thread
  // that made the NoTimers until that is gone.
  static void on_this_thread();
};

}  // namespace tom::envs
