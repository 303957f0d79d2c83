// A setting of the whole process that several calls want at once, each for as long as it lasts.
#pragma once

#include <mutex>

namespace tom::envs {

class SharedSetting {
 public:
  // The first user makes the change, the last one undoes it.
  template <typename Change>
  void acquire(Change change) {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (users_++ == 0) change();
  }
  template <typename Undo>
  void release(Undo undo) {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (--users_ == 0) undo();
  }

 private:
  std::mutex mutex_;
  int users_ = 0;
};

}  // namespace tom::envs
