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
// taken by the next setter. There are never more of them than twice the threads that were inside
// the buffer at once, plus two: a setter, or who helps one, may be using two.
//
// What a generation does not cover it inherits from the one it replaced, its predecessor, whose
// "held by being published" becomes "held as predecessor" until the inheritance is complete. A
// generation is only replaced when it is complete: whoever wants to replace it first completes it,
// without waiting for the setter that published it. Completing it twice at once does no harm, as
// only leaves that were never set are filled in, and all helpers fill in what the predecessor had
// when it was withdrawn. (A point write that reaches a withdrawn predecessor later is made again in
// its successor, and there either finds the leaf inherited and overwrites it, or sets it first and
// is left alone.) A helper adds itself to the predecessor's holders and then looks whether the
// generation is still incomplete; the predecessor is let go after completion, so that by the same
// argument as above nobody reads one that was taken again.
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

  // Written before it is published: from which slot on it inherits, and from whom.
  std::size_t inherits_from = 0;
  Generation* predecessor = nullptr;
  Atomic<std::uint64_t> complete{1};
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

  // Publishes a generation that `take_idle` gave, and completes it: calls inherit(from, to, begin)
  // to fill in the leaves of `to` that are not set, from slot `begin` on, with those of `from`.
  // Other threads may call theirs for the same trees at the same time.
  template <class Inherit>
  void publish(Hold taken, std::size_t begin, const Inherit& inherit) {
    Generation* g = taken.get();
    g->inherits_from = begin;
    g->complete.store(0, std::memory_order_relaxed);
    g->holders.fetch_add(1, std::memory_order_relaxed);  // held by being published
    for (;;) {
      const Hold published = hold();
      complete(published, inherit);
      g->predecessor = published.get();
      Generation* expected = published.get();
      if (published_.compare_exchange_strong(expected, g, std::memory_order_acq_rel)) break;
    }
    complete(taken, inherit);
  }

  // Whether the generation is still published. A read-modify-write, so that it is ordered with the
  // swap in `publish`: if it comes first, whatever this thread has stored into the generation
  // is visible to the thread that replaces it.
  bool is_still_published(const Hold& hold) {
    Generation* g = hold.get();
    return published_.compare_exchange_strong(g, g, std::memory_order_acq_rel);
  }

 private:
  template <class Inherit>
  static void complete(const Hold& hold, const Inherit& inherit) {
    Generation* g = hold.get();
    if (g->complete.load(std::memory_order_acquire)) return;
    g->predecessor->holders.fetch_add(1, std::memory_order_acq_rel);
    const Hold predecessor(g->predecessor);
    if (g->complete.load(std::memory_order_acquire)) return;
    inherit(predecessor.tree(), g->tree, g->inherits_from);
    std::uint64_t incomplete = 0;
    if (g->complete.compare_exchange_strong(incomplete, 1, std::memory_order_acq_rel)) {
      g->predecessor->holders.fetch_sub(1, std::memory_order_release);  // held as predecessor
    }
  }

  const std::size_t capacity_;
  Atomic<Generation*> all_;
  alignas(64) Atomic<Generation*> published_;
};

}  // namespace tom::replay
