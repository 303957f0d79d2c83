// A ring of float32 rows with weights, from which rows are drawn in proportion to their weights.
// Any number of threads may call every method at once, save the two that say otherwise; none takes
// a lock. row_store.h, weight_tree.h and generations.h each argue for their part; this file says
// what follows for each method. "Row k" is the k-th row ever appended, in slot k mod capacity. A
// weight below the smallest normal double counts as 0, wherever it is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "replay/generations.h"
#include "replay/row_store.h"

namespace tom::replay {

class ReplayBuffer {
 public:
  ReplayBuffer(std::size_t capacity, std::size_t width, std::uint64_t seed);

  // Appends n <= capacity rows and returns the slot of the first. `weights` has n entries, or one
  // for all. The n rows are consecutive, whatever other threads append. When the call returns, its
  // rows and weights are in place: a draw that begins later can return them, and size() counts them
  // once all appends that claimed their slots earlier have returned too. While the call runs a slot
  // may be drawn under its old weight and read as the new row. If the other producers append a
  // whole capacity of rows while this call is copying, they wait for it; nobody else ever does,
  // except that a reader of the very row being copied reads again.
  std::size_t append(const float* rows, std::size_t n, std::span<const double> weights);

  // append in its three parts, for rows that several threads write: claim n <= capacity consecutive
  // tickets, write the row of each, then publish them with n weights, or one for all. The writes of
  // different tickets may overlap; each must have returned before publish is called, and publish
  // must be called: until then the buffer waits for these rows as for an append that is copying.
  std::uint64_t claim(std::size_t n) { return rows_.claim(n); }
  void write(std::uint64_t ticket, const float* row) { rows_.write(ticket, row); }
  std::size_t publish(std::uint64_t ticket, std::size_t n, std::span<const double> weights);

  // Gives slots 0 ... weights.size() - 1 their weights, all at once; slots beyond keep theirs. A
  // draw sees either all weights of before or all of these. Of two concurrent calls one is last and
  // wins whole. A point write (append, update_weights) that returned before this call began is
  // overwritten; one that begins after this call returned is kept; one that overlaps is applied
  // before or after it, and is not lost in slots beyond. For the moment between the swap and the
  // return, slots beyond weights.size() may count as weight 0. Returns false, and changes nothing,
  // if a weight is not finite, is negative, or exceeds Leaves::kMaxWeight.
  template <class T>
  bool set_weights(std::span<const T> weights);

  // Stores weights[i] (or weights[0], if there is one) in slot slots[i], for all i in order; every
  // slot must hold a row. When the call returns all are in place. They are not stored as one: a
  // draw that overlaps may see some of them, and then draws each slot under its old or its new
  // weight, never a slot whose weight is 0 in both.
  void update_weights(std::span<const std::int64_t> slots, std::span<const double> weights);

  // Writes n slots, P(slot) = weight / total, independent of each other; with `stratified`, draw i
  // comes from the i-th of n equal parts of the total. All are drawn from the one generation that
  // was published when the call began, which cannot change except by overlapping point writes, and
  // a slot of weight 0 is never returned. The result is a function of (weights, seed, number of
  // earlier calls that drew): calls from several threads share the counter, so they return the same
  // results as the same calls from one thread, in some order. Returns false and draws nothing if
  // the total is 0.
  bool draw(std::size_t n, bool stratified, std::int64_t* slots);

  // Writes n slots that are uniform over the size() slots at the time of the call, whatever their
  // weights. Returns false if there are none.
  bool draw_uniform(std::size_t n, std::int64_t* slots);

  // Copies rows. Each is whole: the one that was in the slot when the call began, or a newer one.
  // Every slot must hold a row.
  void gather(std::span<const std::int64_t> slots, float* out) const;

  // The slots of the newest n <= size() rows, oldest first, at one moment during the call.
  void newest(std::size_t n, std::int64_t* slots) const;

  // Copies of the weights of slots 0 ... n - 1, or of those given, and sums over them. Each weight
  // is whole; overlapping point writes may be seen in part.
  void weights(std::size_t n, double* out) const;
  void weights_at(std::span<const std::int64_t> slots, double* out) const;
  double effective_sample_size() const;  // (sum w)^2 / sum w^2, and 0 if all are 0
  double total_weight() const { return generations_.hold().tree().total(); }

  // The number of rows appended by calls that have returned, up to the first that has not.
  std::uint64_t total_appended() const { return rows_.settled(); }
  std::size_t size() const;
  // The first slot of `slots` that was never written, if any.
  const std::int64_t* find_empty(std::span<const std::int64_t> slots) const;
  std::size_t capacity() const { return rows_.capacity(); }
  std::size_t width() const { return rows_.width(); }
  std::uint64_t seed() const { return seed_.load(std::memory_order_relaxed); }
  std::uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }

  // The rows in slot order, without protection: a row that another thread is overwriting may be
  // seen half old and half new through this pointer.
  float* data() const { return rows_.data(); }

  // Becomes the buffer whose size() rows and weights are given. No other thread may be in any
  // method. Returns false and changes nothing if a weight is bad.
  bool restore(const float* rows, std::span<const double> weights, std::uint64_t total_appended,
               std::uint64_t seed, std::uint64_t calls);

 private:
  std::size_t used_slots()
      const;  // the slots below have perhaps been stored, those from it on never
  void inherit_weights(const WeightTree& from, WeightTree& to, std::size_t begin) const;

  RowStore rows_;
  Generations generations_;
  std::size_t used_before_restore_ = 0;  // changed only by `restore`
  Atomic<std::uint64_t> seed_;
  alignas(64) Atomic<std::uint64_t> calls_{0};
};

}  // namespace tom::replay
