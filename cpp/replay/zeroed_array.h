// A fixed array of zeros at a cache-line boundary. calloc leaves large arrays unmapped until they
// are touched, so a buffer of a million rows costs no memory before the rows arrive.
#pragma once

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
  explicit ZeroedArray(std::size_t size) : block_(std::calloc(size * sizeof(T) + kLine, 1)) {
    if (!block_) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(block_.get());
    data_ = reinterpret_cast<T*>((address + kLine - 1) & ~std::uintptr_t{kLine - 1});
  }

  T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  static constexpr std::size_t kLine = 64;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  std::unique_ptr<void, Free> block_;
  T* data_;
};

}  // namespace tom::replay
