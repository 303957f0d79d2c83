#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace tom {

/// A thread's memory for intermediate numbers, kept from one use to the next: a thread that is
/// given the same part of every step finds it in its own cache.
template <typename T>
class Scratch {
 public:
  /// Memory for n numbers from the beginning of a cache line, valid until the next call.
  T* of(int64_t n) {
    if (n > size_) {
      memory_.reset(static_cast<T*>(::operator new(static_cast<size_t>(n) * sizeof(T), kLine)));
      size_ = n;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory, kLine); }
  };
  std::unique_ptr<T, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace tom
