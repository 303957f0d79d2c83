// The buffer's atomics with a point before each access where the explorer may switch threads.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "tests/interleave/explorer.h"

namespace tom::replay {

template <class T>
std::uint64_t as_word(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<std::uintptr_t>(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::bit_cast<std::uint64_t>(value);
  } else {
    return value;
  }
}

// A reference to a variable that several coroutines of one real thread share.
template <class T>
class AtomicRef {
 public:
  explicit AtomicRef(T& value) : value_(&value) {}

  T load(std::memory_order = std::memory_order_seq_cst) const {
    turn();
    return saw();
  }
  void store(T value, std::memory_order = std::memory_order_seq_cst) const {
    turn();
    write(value);
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) const {
    turn();
    const T before = saw();
    write(value);
    return before;
  }
  T fetch_add(T n, std::memory_order = std::memory_order_seq_cst) const {
    turn();
    const T before = saw();
    write(before + n);
    return before;
  }
  T fetch_sub(T n, std::memory_order = std::memory_order_seq_cst) const { return fetch_add(-n); }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) const {
    turn();
    const T before = saw();
    if (as_word(before) != as_word(expected)) {
      expected = before;
      return false;
    }
    write(desired);
    return true;
  }
  bool compare_exchange_weak(T& expected, T desired,
                             std::memory_order order = std::memory_order_seq_cst) const {
    return compare_exchange_strong(expected, desired, order);
  }

 private:
  void turn() const {
    if (auto* explorer = interleave::Explorer::current()) explorer->before_access(value_);
  }
  T saw() const {
    if (auto* explorer = interleave::Explorer::current()) explorer->saw(value_, as_word(*value_));
    return *value_;
  }
  void write(T value) const {
    *value_ = value;
    if (auto* explorer = interleave::Explorer::current()) explorer->wrote(value_, as_word(value));
  }

  T* value_;
};

template <class T>
class Atomic : public AtomicRef<T> {
 public:
  Atomic(T value = T{}) : AtomicRef<T>(own_), own_(value) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

 private:
  T own_;
};

inline void wait_a_little(int) {
  if (auto* explorer = interleave::Explorer::current()) explorer->wait();
}

}  // namespace tom::replay
