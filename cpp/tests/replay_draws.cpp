// Prints one number made from what a buffer draws and sums, for weights of every kind. It has to be
// the same whatever instructions the library was compiled for.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include "replay/replay_buffer.h"

namespace {

using tom::replay::ReplayBuffer;

class Digest {  // FNV-1a
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    for (const std::byte byte : std::as_bytes(std::span(values))) {
      value_ = (value_ ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001b3;
    }
  }
  unsigned long long value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

enum class Kind { floats, sparse, doubles, subnormal, mixed, large };

double weight(Kind kind, double u, std::size_t slot) {
  switch (kind) {
    case Kind::floats:
      return static_cast<float>(u);
    case Kind::sparse:
      return u > 0.9 ? static_cast<float>(u) : 0.0;
    case Kind::doubles:
      return u * u * u * 1e-3;
    case Kind::subnormal:
      return static_cast<float>(u * 1e-39);
    case Kind::mixed:
      return u < 0.5 ? static_cast<float>(u) : u;
    default:
      return slot % 11 == 1 ? -0.0 : slot % 7 == 1 ? 0.0 : static_cast<float>(u * 1e30);
  }
}

class Random {
 public:
  double unit() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }
  std::int64_t below(std::size_t n) { return static_cast<std::int64_t>(generator_() % n); }

 private:
  std::mt19937_64 generator_{1};
};

bool set(ReplayBuffer& buffer, const std::vector<double>& weights) {
  const bool exact = std::all_of(weights.begin(), weights.end(), [](double w) {
    return static_cast<double>(static_cast<float>(w)) == w;
  });
  if (!exact) return buffer.set_weights(std::span<const double>(weights));
  const std::vector<float> narrow(weights.begin(), weights.end());
  return buffer.set_weights(std::span<const float>(narrow));
}

bool add_draws(ReplayBuffer& buffer, std::size_t n, bool stratified, Digest& digest) {
  std::vector<std::int64_t> slots(n);
  const bool drawn = buffer.draw(n, stratified, slots.data());
  digest.add(slots);
  return drawn;
}

bool add_case(std::size_t n, Kind kind, Random& random, Digest& digest) {
  ReplayBuffer buffer(n + 3, 1, n);
  std::vector<double> weights(n, 1.0);
  buffer.append(std::vector<float>(n).data(), n, std::span(weights).first(1));
  for (std::size_t i = 0; i < n; ++i) weights[i] = weight(kind, random.unit(), i);
  weights[n / 2] = kind == Kind::subnormal ? static_cast<float>(1e-39) : 1.0;
  bool good = set(buffer, weights);
  for (const std::size_t count : {1, 7, 64, 256, 3000, 20000}) {
    good = add_draws(buffer, count, false, digest) && good;
    good = add_draws(buffer, count, true, digest) && good;
  }
  std::vector<std::int64_t> slots(50);
  std::vector<double> some(50);
  for (std::int64_t& slot : slots) slot = random.below(n);
  for (double& w : some) w = random.unit();
  buffer.update_weights(slots, some);
  good = add_draws(buffer, 500, false, digest) && good;
  buffer.weights(n, weights.data());
  digest.add(weights);
  return good;
}

}  // namespace

int main() {
  Digest digest;
  Random random;
  bool good = true;
  for (const std::size_t n : {1, 5, 16, 17, 127, 128, 129, 1000, 5000, 20000}) {
    for (int kind = 0; kind <= static_cast<int>(Kind::large); ++kind) {
      good = add_case(n, static_cast<Kind>(kind), random, digest) && good;
    }
  }
  if (!good) {
    std::puts("replay_draws: weights were refused, or could not be drawn by");
    return 1;
  }
  std::printf("replay_draws: %016llx\n", digest.value());
  return 0;
}
