// Every shared variable of the buffer is an Atomic or is reached through an AtomicRef, or by whole
// vectors where vectors.h says so; only what a fork changes is a plain std::atomic. The test of all
// interleavings compiles the same sources with
// TOM_INTERLEAVE, which turns each access into a point where its scheduler may switch threads.
#pragma once

#include <atomic>

#ifdef TOM_INTERLEAVE
#include "tests/interleave/atomic.h"
#else

#include <thread>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tom::replay {

template <class T>
using Atomic = std::atomic<T>;

template <class T>
using AtomicRef = std::atomic_ref<T>;

// For the two loops that wait for another thread to finish copying one row: stay on the processor
// for the length of a row copy, then let others run.
inline void wait_a_little(int round) {
  if (round < 64) {
#if defined(__x86_64__)
    _mm_pause();
#endif
  } else {
    std::this_thread::yield();
  }
}

}  // namespace tom::replay

#endif
