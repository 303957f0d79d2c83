// The published weights, replaced as a whole by swapping one pointer.
//
// A generation is a WeightTree and a count of its holders. The published one is held by being
// published. `hold` adds a holder and then looks whether the generation is still the published
// one; if not it lets go and takes the new one.
//
// Why no generation is changed or freed under a reader: a setter may only rebuild a generation that
// it took by moving its count from 0 to 1. If a reader's add came before, the count was not 0. If
// it came after, the add acquired everything before the setter's step, thus also that the
// generation had been withdrawn; the reader's second look then finds another generation published,
// and it never looks into this one, unless the setter has meanwhile published it again, in which
// case it is complete. Memory is only returned by the destructor: an idle generation waits to be
// taken by the next setter. There are never more of them than threads that were inside the buffer
// at once, plus one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "replay/atomic.h"
#include "replay/weight_tree.h"

namespace tom::replay {

struct Generation {
  explicit Generation(std::size_t capacity) : tree(capacity) {}

  WeightTree tree;
  Atomic<std::uint64_t> holders{1};
  Generation* next = nullptr;
};

// A holder; the generation may be used until it is destroyed.
class Hold {
 public:
  explicit Hold(Generation* generation) : generation_(generation) {}
  Hold(Hold&& other) noexcept : generation_(other.generation_) { other.generation_ = nullptr; }
  Hold& operator=(Hold&&) = delete;
  ~Hold() {
    if (generation_) generation_->holders.fetch_sub(1, std::memory_order_release);
  }

  WeightTree& tree() const { return generation_->tree; }
  Generation* get() const { return generation_; }

 private:
  Generation* generation_;
};

class Generations {
 public:
  explicit Generations(std::size_t capacity) : capacity_(capacity) {
    Generation* first = new Generation(capacity);
    all_.store(first);
    published_.store(first);
  }
  Generations(const Generations&) = delete;
  Generations& operator=(const Generations&) = delete;

  ~Generations() {
    for (Generation* g = all_.load(); g;) delete std::exchange(g, g->next);
  }

  Hold hold() const {
    for (;;) {
      Generation* g = published_.load(std::memory_order_acquire);
      g->holders.fetch_add(1, std::memory_order_acq_rel);
      Hold hold(g);
      if (published_.load(std::memory_order_acquire) == g) return hold;
    }
  }

  // A generation for the caller alone: an idle one, or a new one.
  Hold take_idle() {
    for (Generation* g = all_.load(std::memory_order_acquire); g; g = g->next) {
      std::uint64_t none = 0;
      if (g->holders.compare_exchange_strong(none, 1, std::memory_order_acq_rel)) return Hold(g);
    }
    auto* g = new Generation(capacity_);
    g->next = all_.load(std::memory_order_relaxed);
    while (!all_.compare_exchange_weak(g->next, g, std::memory_order_acq_rel)) {
    }
    return Hold(g);
  }

  // Publishes a generation that `take_idle` gave, and returns the one that it replaces.
  Hold publish(Hold taken) {
    Generation* g = taken.get();
    g->holders.fetch_add(1, std::memory_order_relaxed);  // held by being published
    return Hold(published_.exchange(g, std::memory_order_acq_rel));
  }

  // Whether the generation is still published. A read-modify-write, so that it is ordered with the
  // exchange in `publish`: if it comes first, whatever this thread has stored into the generation
  // is visible to the thread that replaces it.
  bool is_still_published(const Hold& hold) {
    Generation* g = hold.get();
    return published_.compare_exchange_strong(g, g, std::memory_order_acq_rel);
  }

 private:
  const std::size_t capacity_;
  Atomic<Generation*> all_;
  alignas(64) Atomic<Generation*> published_;
};

}  // namespace tom::replay
