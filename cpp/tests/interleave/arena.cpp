// Memory for the explorer's program: each coroutine takes from the front of a region of its own,
// and every run begins with all regions as they were. An example then lies at the same addresses in
// every run, and equal states can be recognized by their addresses and values.
#include <cstddef>
#include <cstring>

#include "tests/interleave/explorer.h"

namespace {

constexpr std::size_t kRegions = 5;
constexpr std::size_t kSize = std::size_t{1} << 27;

alignas(64) char memory[kRegions][kSize];
std::size_t used[kRegions];
std::size_t used_before_runs;

void* take(std::size_t size) {
  const std::size_t region = interleave::Explorer::region();
  const std::size_t begin = (used[region] + 63) / 64 * 64;
  if (size > kSize - begin) return nullptr;
  used[region] = begin + size;
  return memory[region] + begin;
}

}  // namespace

namespace interleave {

void remember_memory() { used_before_runs = used[0]; }

void rewind_memory() {
  used[0] = used_before_runs;
  for (std::size_t region = 1; region < kRegions; ++region) used[region] = 0;
}

}  // namespace interleave

extern "C" {

void* malloc(std::size_t size) { return take(size); }

void* calloc(std::size_t n, std::size_t size) {
  void* p = take(n * size);
  return p ? std::memset(p, 0, n * size) : nullptr;
}

void* realloc(void* old, std::size_t size) {
  void* p = take(size);
  return p && old ? std::memcpy(p, old, size) : p;  // reads past the old block, inside the region
}

void* aligned_alloc(std::size_t, std::size_t size) { return take(size); }

void free(void*) {}
}
