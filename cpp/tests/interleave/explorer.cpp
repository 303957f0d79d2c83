#include "tests/interleave/explorer.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

namespace interleave {

void Explorer::before_access(const void* address) {
  if (std::find(shared_.begin(), shared_.end(), address) != shared_.end()) hand_over();
}

void Explorer::hand_over() {
  Thread& self = *running_;
  self.history = mix(self.history, 1);
  Thread* next = pick();
  if (next == &self) return;
  running_ = next;
  swapcontext(&self.context, &next->context);
}

Explorer::Cell& Explorer::cell(const void* address) {
  const auto found = std::find_if(memory_.begin(), memory_.end(),
                                  [address](const Cell& c) { return c.address == address; });
  if (found != memory_.end()) return *found;
  memory_.push_back({address});
  return memory_.back();
}

void Explorer::saw(const void* address, std::uint64_t value) {
  cell(address).threads |= 1U << region();
  running_->history = mix(mix(running_->history, reinterpret_cast<std::uintptr_t>(address)), value);
}

void Explorer::wrote(const void* address, std::uint64_t value) {
  Cell& c = cell(address);
  c.written = true;
  memory_hash_ ^= c.hash;
  c.hash = mix(reinterpret_cast<std::uintptr_t>(address), value);
  memory_hash_ ^= c.hash;
  ++writes_;
  saw(address, value);
  running_->history_at_write = running_->history;
}

// Adds what several threads use and one of them writes. Returns whether anything was added.
bool Explorer::find_shared() {
  const std::size_t before = shared_.size();
  for (const Cell& c : memory_) {
    const bool is_shared = c.written && std::popcount(c.threads) > 1;
    if (is_shared && std::find(shared_.begin(), shared_.end(), c.address) == shared_.end()) {
      shared_.push_back(c.address);
    }
  }
  return shared_.size() > before;
}

void Explorer::wait() {
  // If another thread wrote since this one last looked, it may look again at once.
  running_->waits = writes_ == running_->writes_seen;
  running_->writes_seen = writes_;
  // What a waiting loop has looked at in vain does not matter any more. (Each of the two such loops
  // begins where the thread has just written, or begun.)
  running_->history = running_->history_at_write;
  hand_over();
  running_->waits = false;
}

void Explorer::enter() {
  Explorer& self = *current_;
  (*self.running_->body)();
  self.running_->done = true;
  self.running_ = self.pick();
  setcontext(self.running_ ? &self.running_->context : &self.scheduler_);
}

std::uint64_t Explorer::state() const {
  std::uint64_t h = mix(memory_hash_, 1);
  if (limit_ != kUnlimited) h = mix(mix(h, interruptions_), running_ ? region() : 0);
  for (std::size_t i = 0; i < size_; ++i) {
    const Thread& t = threads_[i];
    h = mix(mix(h, t.history), 2 * std::uint64_t{t.done} + std::uint64_t{t.waits});
  }
  return h | 1;  // 0 is an empty slot of the set
}

void Explorer::run_once(const Example& example) {
  memory_.clear();
  memory_hash_ = writes_ = 0;
  size_ = example.threads.size();
  current_ = this;
  for (std::size_t i = 0; i < size_; ++i) {
    Thread& thread = threads_.at(i);
    thread.body = &example.threads[i];
    thread.history = thread.history_at_write = thread.writes_seen = 0;
    thread.done = thread.waits = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.context, &Explorer::enter, 0);
  }
  depth_ = interruptions_ = 0;
  is_new_ = true;
  running_ = nullptr;
  running_ = pick();
  swapcontext(&scheduler_, &running_->context);
  current_ = nullptr;
  example.finally();
}

// Who makes the next access: as in the list of picks, or where that ends, the first thread that
// can.
Explorer::Thread* Explorer::pick() {
  std::array<Thread*, 4> able;
  std::size_t options = 0;
  bool all_done = true;
  if (running_ && !running_->done && !running_->waits && interruptions_ == limit_) return running_;
  for (std::size_t i = 0; i < size_; ++i) {
    Thread& t = threads_[i];
    all_done = all_done && t.done;
    if (!t.done && !(t.waits && t.writes_seen == writes_)) able[options++] = &t;
  }
  if (all_done) return nullptr;
  if (options == 0) {
    std::fprintf(stderr, "interleavings: every thread waits\n");
    std::abort();
  }
  const std::size_t depth = depth_++;
  if (depth >= picks_.size()) {
    is_new_ = is_new_ && visited_.insert(state());
    if (is_new_) picks_.push_back({0, options});
  }
  Thread* const next = able[depth < picks_.size() ? picks_[depth].chosen : 0];
  if (running_ && next != running_ && !running_->done && !running_->waits) ++interruptions_;
  return next;
}

std::size_t Explorer::explore(const std::function<Example()>& make, std::size_t limit) {
  limit_ = limit;
  visited_.clear();
  picks_.clear();
  shared_.clear();
  runs_ = 0;
  picks_.reserve(10'000);  // what a run leaves behind must not be in the memory that is rewound
  memory_.reserve(10'000);
  shared_.reserve(10'000);
  remember_memory();
  do {
    rewind_memory();
    run_once(make());
    ++runs_;
    if (find_shared()) {  // there are more points to switch at than was known: begin again
      visited_.clear();
      picks_.clear();
      continue;
    }
    while (!picks_.empty() && ++picks_.back().chosen == picks_.back().options) picks_.pop_back();
  } while (!picks_.empty() || visited_.size() == 0);
  return visited_.size();
}

}  // namespace interleave
