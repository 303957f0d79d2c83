// Keeps MuJoCo's warnings off the console and out of MUJOCO_LOG.TXT while it lives.
//
// The simulator reports instability itself, by simulation; MuJoCo's default handler would print
// a line per event and write a file into the working directory. The setting is the process's, so
// uses are counted: the first one saves it and the last one restores it. A process that is forked
// meanwhile begins with no uses and the setting restored.
#pragma once

namespace tom::envs {

class QuietLog {
 public:
  QuietLog();
  ~QuietLog();
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;
};

}  // namespace tom::envs
