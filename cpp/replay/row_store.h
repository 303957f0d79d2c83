// A ring of rows that many threads write and read at once.
//
// Ticket k (the k-th row ever appended) lives in slot k mod capacity, on lap k / capacity. The
// slot's sequence word tells what it holds:
//
//     4 lap + 1   the row of this lap is being written
//     4 lap + 2   the row can be read
//     4 lap + 3   settled: its weight is in place too, and the next lap may overwrite it
//
// 0 is the slot that was never used. A slot has one writer at a time: tickets are unique, and the
// writer of lap L waits until lap L - 1 has settled. It therefore waits only when the other
// producers have claimed a whole capacity of rows since that ticket. The oldest ticket waits for
// nobody, so some producer always moves.
//
// Why no row is torn (the seqlock of Boehm, "Can seqlocks get along with programming language
// memory models?", MSPC 2012, in its form without fences): the writer stores 4 lap + 1 and then
// every word with release order; the reader loads every word with acquire order and then the
// sequence word again. If any word it got is from the writer of a later lap, that word's release
// store happened after 4 lap + 1 was stored, so the reader's second look at the sequence word
// cannot return the first value, and it starts over.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "replay/atomic.h"
#include "replay/zeroed_array.h"

namespace tom::replay {

class RowStore {
 public:
  RowStore(std::size_t capacity, std::size_t width);

  // Reserves n <= capacity tickets with one atomic add, and returns the first. Throws
  // std::runtime_error in a child of fork that has left behind a thread with tickets of its own.
  std::uint64_t claim(std::uint64_t n);

  // Writes the row of a claimed ticket and makes it readable.
  void write(std::uint64_t ticket, const float* row);

  // Declares tickets [first, first + n) settled, and moves `settled()` as far as it goes.
  void settle(std::uint64_t first, std::uint64_t n);

  // Copies a row that is whole. Waits while the slot is being written. `has_row(slot)` must hold.
  // Throws std::runtime_error if the slot's writer was left behind by a fork, and if `restore` has
  // emptied the slot meanwhile.
  void read(std::size_t slot, float* out) const;

  bool has_row(std::size_t slot) const {
    return slot < capacity_ && sequence(slot).load(std::memory_order_acquire) != 0;
  }
  void prefetch(std::size_t slot) const;

  // Every ticket below this number has settled.
  std::uint64_t settled() const { return settled_.load(std::memory_order_acquire); }
  std::uint64_t claimed() const { return claimed_.load(std::memory_order_acquire); }
  std::size_t capacity() const { return capacity_; }
  std::size_t width() const { return width_; }
  std::size_t slot(std::uint64_t ticket) const { return ticket % capacity_; }

  // The rows in slot order, for a view; reads through it are not protected by the sequence words.
  float* data() const { return reinterpret_cast<float*>(words_.data()); }

  // Makes the slots hold `rows` [min(total, capacity), width] as if `total` rows had been
  // appended. The caller makes sure that no other thread uses the store.
  void restore(const float* rows, std::uint64_t total);

 private:
  bool is_forked() const;
  AtomicRef<std::uint64_t> sequence(std::size_t slot) const {
    return AtomicRef<std::uint64_t>(sequence_[slot]);
  }
  bool try_read(std::size_t slot, float* out) const;
  void store_words(std::size_t slot, const float* row);
  void load_words(std::size_t slot, float* out) const;

  const std::size_t capacity_;
  const std::size_t width_;
  std::atomic<unsigned> forks_;  // that led to the process in which all tickets can settle
  ZeroedArray<std::uint64_t> words_;
  ZeroedArray<std::uint64_t> sequence_;
  // On cache lines of their own: producers fight for the first two, readers poll the third.
  alignas(64) Atomic<std::uint64_t> claimed_{0};
  alignas(64) Atomic<std::uint64_t> settlements_{0};
  alignas(64) Atomic<std::uint64_t> settled_{0};
};

}  // namespace tom::replay
