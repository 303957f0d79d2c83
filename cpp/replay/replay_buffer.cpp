#include "replay/replay_buffer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "replay/guide_table.h"
#include "replay/philox.h"

namespace tom::replay {
namespace {

constexpr std::size_t kChunk = 256;     // draws whose random words are made together
constexpr std::size_t kPrefetched = 8;  // rows between the prefetch and the copy

// Makes a change to the published weights that cannot be lost to a set_weights in between.
template <class Change>
void change_weights(Generations& generations, const Change& change) {
  for (;;) {
    const Hold hold = generations.hold();
    change(hold.tree());
    if (generations.is_still_published(hold)) return;
  }
}

}  // namespace

ReplayBuffer::ReplayBuffer(std::size_t capacity, std::size_t width, std::uint64_t seed)
    : rows_(capacity, width), generations_(capacity), seed_(seed) {}

std::size_t ReplayBuffer::size() const {
  return std::min<std::uint64_t>(rows_.settled(), rows_.capacity());
}

// (At least: a claim may be on its way. Its slot has never been stored in a tree that is idle.)
std::size_t ReplayBuffer::used_slots() const {
  const std::size_t claimed = std::min<std::uint64_t>(rows_.claimed(), capacity());
  return std::max(claimed, used_before_restore_);
}

std::size_t ReplayBuffer::append(const float* rows, std::size_t n,
                                 std::span<const double> weights) {
  const std::uint64_t ticket = claim(n);
  for (std::size_t i = 0; i < n; ++i) write(ticket + i, rows + i * width());
  return publish(ticket, n, weights);
}

std::size_t ReplayBuffer::publish(std::uint64_t ticket, std::size_t n,
                                  std::span<const double> weights) {
  const std::size_t first = rows_.slot(ticket);
  if (n == 0) return first;
  const std::size_t until_end = std::min(n, capacity() - first);
  change_weights(generations_, [&](WeightTree& tree) {
    for (std::size_t i = 0; i < n; ++i) {
      tree.store(rows_.slot(ticket + i), weights[weights.size() == 1 ? 0 : i]);
    }
    tree.refresh_range(first, first + until_end);
    tree.refresh_range(0, n - until_end);
  });
  rows_.settle(ticket, n);
  return first;
}

template <class T>
bool ReplayBuffer::set_weights(std::span<const T> weights) {
  Hold taken = generations_.take_idle();
  if (!taken.tree().rebuild(weights, used_slots())) return false;
  generations_.publish(std::move(taken), weights.size(),
                       [this](const WeightTree& from, WeightTree& to, std::size_t begin) {
                         inherit_weights(from, to, begin);
                       });
  return true;
}

template bool ReplayBuffer::set_weights(std::span<const float>);
template bool ReplayBuffer::set_weights(std::span<const double>);

// Slots claimed after this look were not written before the swap: their appends write into `to`, or
// into what replaces it.
void ReplayBuffer::inherit_weights(const WeightTree& from, WeightTree& to,
                                   std::size_t begin) const {
  const std::size_t end = std::min<std::uint64_t>(rows_.claimed(), capacity());
  if (begin >= end) return;
  for (std::size_t slot = begin; slot < end; ++slot) {
    if (from.is_set(slot)) to.store_if_unset(slot, from.weight(slot));
  }
  to.refresh_range(begin, end);
}

void ReplayBuffer::update_weights(std::span<const std::int64_t> slots,
                                  std::span<const double> weights) {
  change_weights(generations_, [&](WeightTree& tree) { tree.update(slots, weights); });
}

bool ReplayBuffer::draw(std::size_t n, bool stratified, std::int64_t* slots) {
  const Hold hold = generations_.hold();
  const WeightTree& tree = hold.tree();
  double total = tree.total();
  if (total == 0.0) return false;
  const DrawStream stream(seed(), calls_.fetch_add(1, std::memory_order_relaxed));
  const auto target = [&](std::size_t i, std::uint64_t word) {
    const double u = unit_interval(word);
    const double position = stratified ? (static_cast<double>(i) + u) / static_cast<double>(n) : u;
    return position * total;
  };
  std::optional<GuideTable> guide;
  if (GuideTable::pays_for(n, tree)) guide.emplace(tree, total);
  std::array<std::uint64_t, kChunk> words;
  std::array<double, kChunk> targets;
  for (std::size_t begin = 0; begin < n; begin += kChunk) {
    const std::size_t count = std::min(kChunk, n - begin);
    stream.fill(begin, count, words.data());
    for (std::size_t i = 0; i < count; ++i) targets[i] = target(begin + i, words[i]);
    const std::span<const double> chunk(targets.data(), count);
    guide ? guide->find(chunk, slots + begin) : tree.find(chunk, slots + begin);
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::uint64_t attempt = 1; slots[i] < 0; ++attempt) {
      total = tree.total();
      if (total == 0.0) return false;
      const double again = target(i, stream.retry(i, attempt));
      tree.find(std::span(&again, 1), slots + i);
    }
  }
  return true;
}

bool ReplayBuffer::draw_uniform(std::size_t n, std::int64_t* slots) {
  const std::uint64_t size = this->size();
  if (size == 0) return false;
  const DrawStream stream(seed(), calls_.fetch_add(1, std::memory_order_relaxed));
  std::array<std::uint64_t, kChunk> words;
  for (std::size_t begin = 0; begin < n; begin += kChunk) {
    const std::size_t count = std::min(kChunk, n - begin);
    stream.fill(begin, count, words.data());
    for (std::size_t i = 0; i < count; ++i) {
      // The high word of the product: uniform but for a bias of at most size / 2^64.
      slots[begin + i] = static_cast<std::int64_t>((Uint128{words[i]} * size) >> 64);
    }
  }
  return true;
}

const std::int64_t* ReplayBuffer::find_empty(std::span<const std::int64_t> slots) const {
  const std::uint64_t size = this->size();
  for (const std::int64_t& slot : slots) {
    const auto s = static_cast<std::uint64_t>(slot);  // a negative slot becomes a very large one
    if (s >= size && !rows_.has_row(s)) return &slot;
  }
  return nullptr;
}

void ReplayBuffer::gather(std::span<const std::int64_t> slots, float* out) const {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (i + kPrefetched < slots.size()) rows_.prefetch(slots[i + kPrefetched]);
    rows_.read(slots[i], out + i * width());
  }
}

void ReplayBuffer::newest(std::size_t n, std::int64_t* slots) const {
  const std::uint64_t first = rows_.settled() - n;
  for (std::size_t i = 0; i < n; ++i) slots[i] = static_cast<std::int64_t>(rows_.slot(first + i));
}

void ReplayBuffer::weights(std::size_t n, double* out) const {
  const Hold hold = generations_.hold();
  for (std::size_t slot = 0; slot < n; ++slot) out[slot] = hold.tree().weight(slot);
}

void ReplayBuffer::weights_at(std::span<const std::int64_t> slots, double* out) const {
  const Hold hold = generations_.hold();
  for (const std::int64_t slot : slots) *out++ = hold.tree().weight(slot);
}

double ReplayBuffer::effective_sample_size() const {
  const Hold hold = generations_.hold();
  const std::size_t n = size();
  // In units of the largest so far, so that no square overflows. Each weight is read once: another
  // thread may change it at any time.
  double largest = 0.0, sum = 0.0, squares = 0.0;
  for (std::size_t slot = 0; slot < n; ++slot) {
    const double weight = hold.tree().weight(slot);
    if (weight > largest) {
      const double shrunk = largest / weight;
      sum *= shrunk;
      squares *= shrunk * shrunk;
      largest = weight;
    }
    if (largest == 0.0) continue;
    const double w = weight / largest;
    sum += w;
    squares += w * w;
  }
  return largest == 0.0 ? 0.0 : sum * sum / squares;
}

bool ReplayBuffer::restore(const float* rows, std::span<const double> weights,
                           std::uint64_t total_appended, std::uint64_t seed, std::uint64_t calls) {
  // Before a tree is taken: beyond the used slots nothing would clear what it is left with.
  if (!std::all_of(weights.begin(), weights.end(), Leaves::is_weight)) return false;
  Hold taken = generations_.take_idle();
  const std::size_t used = used_slots();
  taken.tree().rebuild(weights, std::max(used, weights.size()));
  used_before_restore_ = used;
  rows_.restore(rows, total_appended);
  const auto nothing = [](const WeightTree&, WeightTree&, std::size_t) {};
  generations_.publish(std::move(taken), capacity(), nothing);
  seed_.store(seed, std::memory_order_relaxed);
  calls_.store(calls, std::memory_order_relaxed);
  return true;
}

}  // namespace tom::replay
