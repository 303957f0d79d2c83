#include "envs/no_timers.h"

#include <mujoco/mujoco.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

namespace tom::envs {
namespace {

// Each hook belongs to one callback for good. Whoever has kept a hook as "the callback before mine"
// thus gets what it stood for, whatever was set since, and hooks and the callbacks of others can be
// put before each other without ever making a circle. `mujoco` has two callbacks, its own clock and
// the one that calls a Python function; should the hooks be used up, the next one times the steps.
constexpr int kHooks = 16;
std::array<std::atomic<mjfTime>, kHooks> callbacks{};
thread_local bool untimed = false;

template <int I>
mjtNum time_for_others() {
  return untimed ? 0.0 : callbacks[I].load()();
}

constexpr std::array<mjfTime, kHooks> kHookOf = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<mjfTime, kHooks>{time_for_others<I>...};
}(std::make_integer_sequence<int, kHooks>());

}  // namespace

void NoTimers::set_hook() {
  const std::atomic_ref<mjfTime> present(mjcb_time);
  mjfTime callback = present.load();
  if (!callback || std::ranges::find(kHookOf, callback) != kHookOf.end()) return;
  for (int i = 0; i < kHooks; ++i) {
    mjfTime taken = nullptr;
    if (callbacks[i].compare_exchange_strong(taken, callback) || taken == callback) {
      // Fails if somebody has set another one just now, which the next step will find.
      present.compare_exchange_strong(callback, kHookOf[i]);
      return;
    }
  }
}

NoTimers::~NoTimers() { untimed = false; }

void NoTimers::on_this_thread() { untimed = true; }

}  // namespace tom::envs
