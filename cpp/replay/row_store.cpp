#include "replay/row_store.h"

#include <pthread.h>

#include <cstring>
#include <stdexcept>

namespace tom::replay {
namespace {

constexpr std::uint64_t kWriting = 1;
constexpr std::uint64_t kReadable = 2;
constexpr std::uint64_t kSettled = 3;

// The forks between the process that loaded this library and this one: cheaper to ask for than the
// process's number.
std::atomic<unsigned> forks{0};
[[maybe_unused]] const int counted =
    pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

constexpr const char* kForked =
    "the buffer was forked while another thread appended to it, whose rows will never be whole; "
    "fork before threads use the buffer, or make it in the process that uses it";

// What the slot's sequence word must be before the writer of this lap may begin.
std::uint64_t before_lap(std::uint64_t lap) { return lap == 0 ? 0 : 4 * (lap - 1) + kSettled; }

bool can_be_read(std::uint64_t sequence) { return sequence % 4 >= kReadable; }

// Words of eight bytes where every row begins at a multiple of eight bytes, else of four. A buffer
// always uses the same kind, as mixed sizes would not be atomic with respect to each other.
template <class Word>
void store_as(std::uint64_t* base, std::size_t slot, std::size_t width, const float* row) {
  const std::size_t n = width * sizeof(float) / sizeof(Word);
  Word* to = reinterpret_cast<Word*>(base) + slot * n;
  for (std::size_t i = 0; i < n; ++i) {
    Word word;
    std::memcpy(&word, reinterpret_cast<const char*>(row) + i * sizeof(Word), sizeof(Word));
    AtomicRef<Word>(to[i]).store(word, std::memory_order_release);
  }
}

template <class Word>
void load_as(std::uint64_t* base, std::size_t slot, std::size_t width, float* out) {
  const std::size_t n = width * sizeof(float) / sizeof(Word);
  Word* from = reinterpret_cast<Word*>(base) + slot * n;
  for (std::size_t i = 0; i < n; ++i) {
    const Word word = AtomicRef<Word>(from[i]).load(std::memory_order_acquire);
    std::memcpy(reinterpret_cast<char*>(out) + i * sizeof(Word), &word, sizeof(Word));
  }
}

}  // namespace

RowStore::RowStore(std::size_t capacity, std::size_t width)
    : capacity_(capacity),
      width_(width),
      forks_(forks.load(std::memory_order_relaxed)),
      words_((capacity * width + 1) / 2),
      sequence_(capacity) {}

// A child of the process that made the buffer has a copy of the memory, but of its threads only the
// one that forked: what another had claimed then never settles.
bool RowStore::is_forked() const {
  return forks.load(std::memory_order_relaxed) != forks_.load(std::memory_order_acquire);
}

std::uint64_t RowStore::claim(std::uint64_t n) {
  if (is_forked()) {
    // Asked once more, as another thread of the child may have claimed meanwhile, and have seen
    // that all was settled: who sees its claim also sees its `forks_`.
    if (claimed() != settled() && is_forked()) throw std::runtime_error(kForked);
    forks_.store(forks.load(std::memory_order_relaxed), std::memory_order_release);
  }
  return claimed_.fetch_add(n, std::memory_order_release);
}

void RowStore::store_words(std::size_t slot, const float* row) {
  if (width_ % 2 == 0) {
    store_as<std::uint64_t>(words_.data(), slot, width_, row);
  } else {
    store_as<std::uint32_t>(words_.data(), slot, width_, row);
  }
}

void RowStore::load_words(std::size_t slot, float* out) const {
  if (width_ % 2 == 0) {
    load_as<std::uint64_t>(words_.data(), slot, width_, out);
  } else {
    load_as<std::uint32_t>(words_.data(), slot, width_, out);
  }
}

void RowStore::write(std::uint64_t ticket, const float* row) {
  const std::size_t slot = this->slot(ticket);
  const std::uint64_t lap = ticket / capacity_;
  const AtomicRef<std::uint64_t> sequence = this->sequence(slot);
  for (int round = 0; sequence.load(std::memory_order_acquire) != before_lap(lap); ++round) {
    wait_a_little(round);
  }
  // Release, so that a reader who sees this also sees the claim's `forks_`.
  sequence.store(4 * lap + kWriting, std::memory_order_release);
  store_words(slot, row);
  sequence.store(4 * lap + kReadable, std::memory_order_release);
}

void RowStore::settle(std::uint64_t first, std::uint64_t n) {
  for (std::uint64_t ticket = first; ticket < first + n; ++ticket) {
    sequence(slot(ticket)).store(4 * (ticket / capacity_) + kSettled, std::memory_order_release);
  }
  // Two producers that settle neighbouring tickets must not both miss the other's: their adds to
  // this one counter are ordered, and the later of the two sees what the earlier has stored.
  settlements_.fetch_add(n, std::memory_order_acq_rel);
  std::uint64_t begin = settled_.load(std::memory_order_acquire);
  for (;;) {
    std::uint64_t end = begin;
    while (sequence(slot(end)).load(std::memory_order_acquire) >=
           4 * (end / capacity_) + kSettled) {
      ++end;
    }
    if (end == begin) return;
    if (settled_.compare_exchange_strong(begin, end, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
      begin = end;
    }
  }
}

bool RowStore::try_read(std::size_t slot, float* out) const {
  const std::uint64_t before = sequence(slot).load(std::memory_order_acquire);
  if (!can_be_read(before)) return false;
  load_words(slot, out);
  const std::uint64_t after = sequence(slot).load(std::memory_order_relaxed);
  return (before | 1) == (after | 1);  // readable and settled hold the same row
}

void RowStore::read(std::size_t slot, float* out) const {
  if (try_read(slot, out)) return;
  int round = 0;
  do {
    if (!has_row(slot)) {
      throw std::runtime_error(
          "the buffer was loaded while another thread read it; let none use it meanwhile");
    }
    // Nobody in this process has claimed a row, so whoever writes this one was left behind. In this
    // order: a thread of the child that has claimed it meanwhile is then seen by its `forks_`.
    if (!can_be_read(sequence(slot).load(std::memory_order_acquire)) && is_forked()) {
      throw std::runtime_error(kForked);
    }
    wait_a_little(round++);
  } while (!try_read(slot, out));
}

void RowStore::prefetch(std::size_t slot) const {
  const char* row = reinterpret_cast<const char*>(data() + slot * width_);
  __builtin_prefetch(&sequence_[slot]);
  for (std::size_t byte = 0; byte < width_ * sizeof(float); byte += 64) {
    __builtin_prefetch(row + byte);
  }
}

void RowStore::restore(const float* rows, std::uint64_t total) {
  const std::uint64_t size = total < capacity_ ? total : capacity_;
  for (std::size_t slot = 0; slot < capacity_; ++slot) {
    sequence(slot).store(0, std::memory_order_relaxed);
  }
  for (std::uint64_t ticket = total - size; ticket < total; ++ticket) {
    const std::size_t slot = this->slot(ticket);
    store_words(slot, rows + slot * width_);
    sequence(slot).store(4 * (ticket / capacity_) + kSettled, std::memory_order_release);
  }
  settled_.store(total, std::memory_order_release);
  settlements_.store(total, std::memory_order_release);
  claimed_.store(total, std::memory_order_release);
}

}  // namespace tom::replay
