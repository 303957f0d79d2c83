// Runs a few threads in every order that sequentially consistent memory allows, on tiny examples.
//
// The threads are coroutines. Before each access to a shared variable (interleave/atomic.h) the
// running one hands over to the explorer, which picks who goes next. A run is a list of such picks;
// the explorer tries all lists, depth first, each in a fresh copy of the example. Two lists that
// lead to the same state lead to the same futures, so the second is not continued. The state is
// what memory holds and what every thread has seen so far, as its next step is a function of that;
// both are kept as 64-bit hashes.
//
// A variable that only one thread uses, or that nobody writes, is no reason to switch. Which ones
// are shared is learned from the runs, and the search begins again whenever one is added.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

namespace interleave {

inline std::uint64_t mix(std::uint64_t h, std::uint64_t x) {
  h = (h ^ x) * 0x9E3779B97F4A7C15;
  return h ^ (h >> 29);
}

// See arena.cpp.
void remember_memory();
void rewind_memory();

// A set of hashes in one fixed block of memory.
class HashSet {
 public:
  // Returns whether the hash is new.
  bool insert(std::uint64_t hash) {
    std::size_t i = hash % slots_.size();
    while (slots_[i] != 0 && slots_[i] != hash) i = (i + 1) % slots_.size();
    if (slots_[i] == hash) return false;
    slots_[i] = hash;
    if (2 * ++size_ > slots_.size()) throw std::length_error("too many states");
    return true;
  }
  std::size_t size() const { return size_; }
  void clear() {
    std::fill(slots_.begin(), slots_.end(), 0);
    size_ = 0;
  }

 private:
  std::vector<std::uint64_t> slots_ = std::vector<std::uint64_t>(std::size_t{1} << 23);
  std::size_t size_ = 0;
};

class Explorer {
 public:
  // The bodies of the threads, and what must hold when all have returned.
  struct Example {
    std::vector<std::function<void()>> threads;
    std::function<void()> finally;
  };

  // Calls `make` for every run. Returns the number of distinct states. In larger examples only the
  // runs are tried in which at most `limit` times a thread that could go on is interrupted.
  std::size_t explore(const std::function<Example()>& make, std::size_t limit);
  static constexpr std::size_t kUnlimited = ~std::size_t{0};

  std::size_t runs() const { return runs_; }

  // Called by the threads. `before_access` returns when it is this thread's turn; `saw` and `wrote`
  // tell what the access did; `wait` is a turn of a waiting loop: it returns once another thread
  // has written.
  void before_access(const void* address);
  void saw(const void* address, std::uint64_t value);
  void wrote(const void* address, std::uint64_t value);
  void wait();

  // The explorer that runs the calling thread, or none while examples are made and checked.
  static Explorer* current() { return current_; }

  // 0 outside of threads, else the running one's number from 1.
  static std::size_t region() {
    return current_ && current_->running_ ? current_->running_ - current_->threads_.data() + 1 : 0;
  }

 private:
  struct Thread {
    const std::function<void()>* body = nullptr;
    std::vector<char> stack = std::vector<char>(64 * 1024);
    ucontext_t context{};
    std::uint64_t history = 0;
    std::uint64_t history_at_write = 0;
    std::uint64_t writes_seen = 0;  // when it began, or last waited
    bool done = false;
    bool waits = false;
  };
  struct Cell {
    const void* address;
    std::uint64_t hash = 0;  // of the address and what was last written, if anything was
    unsigned threads = 0;    // a bit for each that used it
    bool written = false;
  };
  struct Pick {
    std::size_t chosen;
    std::size_t options;
  };

  static void enter();
  void run_once(const Example& example);
  std::uint64_t state() const;
  Thread* pick();
  void hand_over();
  Cell& cell(const void* address);
  bool find_shared();

  std::array<Thread, 4> threads_;
  std::size_t size_ = 0;
  std::vector<Cell> memory_;
  std::vector<const void*> shared_;
  std::uint64_t memory_hash_ = 0;
  std::uint64_t writes_ = 0;
  std::vector<Pick> picks_;
  std::size_t runs_ = 0;
  HashSet visited_;
  Thread* running_ = nullptr;
  std::size_t depth_ = 0;
  std::size_t interruptions_ = 0;
  std::size_t limit_ = 0;
  bool is_new_ = true;  // does this run still lead to states that no run has seen?
  ucontext_t scheduler_{};
  inline static Explorer* current_ = nullptr;
};

}  // namespace interleave
