// A fixed array of zeros. calloc leaves large arrays unmapped until they are touched, so a buffer
// of a million rows costs no memory before the rows arrive. Large arrays ask for huge pages: draws
// jump all over them, and with small pages most of the time would go into address translation.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace tom::replay {

template <class T>
class ZeroedArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit ZeroedArray(std::size_t size) {
    const std::size_t bytes = size * sizeof(T);
    const std::size_t alignment = bytes < kHugePage ? kLines : kHugePage;
    block_.reset(std::calloc(bytes + alignment, 1));
    if (!block_) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(block_.get());
    data_ = reinterpret_cast<T*>((address + alignment - 1) & ~std::uintptr_t{alignment - 1});
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }

  T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  static constexpr std::size_t kLines = 128;  // two cache lines: some processors fetch pairs
  static constexpr std::size_t kHugePage = std::size_t{1} << 21;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  std::unique_ptr<void, Free> block_;
  T* data_;
};

}  // namespace tom::replay
