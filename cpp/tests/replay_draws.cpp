// Prints one number made from what a buffer draws and sums, for weights of every kind. It has to be
// the same whatever instructions the library was compiled for.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
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

enum class Kind {
  floats,
  floats_as_doubles,
  sparse,
  doubles,
  few_doubles,
  mixed,
  large,
  negative_zeros,
  subnormal_floats,
  subnormal_doubles,
  doubles_around_normal,
  last = doubles_around_normal
};

double weight(Kind kind, double u, std::size_t slot) {
  switch (kind) {
    case Kind::sparse:
      return u > 0.9 ? static_cast<float>(u) : 0.0;
    case Kind::doubles:
      return u * u * u * 1e-3;
    case Kind::few_doubles:
      return slot % 50 == 7 ? u : static_cast<float>(u);
    case Kind::mixed:
      return u < 0.5 ? static_cast<float>(u) : u;
    case Kind::large:
      return static_cast<float>(u * 3e38);
    case Kind::negative_zeros:
      return slot % 11 == 1 ? -0.0 : static_cast<float>(u);
    case Kind::subnormal_floats:
      return static_cast<float>(u * 1e-39);
    case Kind::subnormal_doubles:
      return u * 1.2e-311;
    case Kind::doubles_around_normal:
      return u * 4 * std::numeric_limits<double>::min();
    default:
      return static_cast<float>(u);
  }
}

class Random {
 public:
  double unit() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }
  std::int64_t below(std::size_t n) { return static_cast<std::int64_t>(generator_() % n); }

 private:
  std::mt19937_64 generator_{1};
};

bool set(ReplayBuffer& buffer, const std::vector<double>& weights, bool as_doubles) {
  const bool exact = std::all_of(weights.begin(), weights.end(), [](double w) {
    return static_cast<double>(static_cast<float>(w)) == w;
  });
  if (!exact || as_doubles) return buffer.set_weights(std::span<const double>(weights));
  const std::vector<float> narrow(weights.begin(), weights.end());
  return buffer.set_weights(std::span<const float>(narrow));
}

// Whether weights with one that is none are refused, and change nothing.
bool refuses(ReplayBuffer& buffer, std::vector<double> weights, std::size_t slot) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double total = buffer.total_weight();
  bool good = true;
  for (const double bad : {kInfinity, -kInfinity, std::nan(""), -1.0, -1e-320}) {
    weights[slot] = bad;
    good = !set(buffer, weights, true) && good;
    const bool none_as_float = static_cast<float>(bad) != 0.0F;
    if (none_as_float) {
      const std::vector<float> narrow(weights.begin(), weights.end());
      good = !buffer.set_weights(std::span<const float>(narrow)) && good;
    }
  }
  return good && buffer.total_weight() == total;
}

// Whether the buffer has these weights, those below the smallest normal number as 0.
bool holds(const ReplayBuffer& buffer, const std::vector<double>& weights) {
  std::vector<double> held(weights.size());
  buffer.weights(held.size(), held.data());
  return std::equal(held.begin(), held.end(), weights.begin(), [](double own, double given) {
    return own == (given < std::numeric_limits<double>::min() ? 0.0 : given);
  });
}

bool add_draws(ReplayBuffer& buffer, std::size_t n, bool stratified, Digest& digest) {
  std::vector<std::int64_t> slots(n);
  const bool drawn = buffer.draw(n, stratified, slots.data());
  if (drawn) digest.add(slots);
  return drawn == (buffer.total_weight() > 0.0);
}

bool add_case(std::size_t n, Kind kind, Random& random, Digest& digest) {
  ReplayBuffer buffer(n + 3, 1, n);
  std::vector<double> weights(n, 1.0);
  buffer.append(std::vector<float>(n).data(), n, std::span(weights).first(1));
  for (std::size_t i = 0; i < n; ++i) weights[i] = weight(kind, random.unit(), i);
  if (kind == Kind::sparse) weights[n / 2] = 1.0;
  bool good = set(buffer, weights, kind == Kind::floats_as_doubles);
  good = refuses(buffer, weights, static_cast<std::size_t>(random.below(n))) && good;
  good = holds(buffer, weights) && good;
  digest.add(std::vector{buffer.total_weight()});
  for (const std::size_t count : {1, 7, 64, 256, 3000, 20000}) {
    good = add_draws(buffer, count, false, digest) && good;
    good = add_draws(buffer, count, true, digest) && good;
  }
  std::vector<std::int64_t> slots(50);
  std::vector<double> some(50);
  for (std::int64_t& slot : slots) slot = random.below(n);
  for (double& w : some) w = weight(kind, random.unit(), 0);
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
    for (int kind = 0; kind <= static_cast<int>(Kind::last); ++kind) {
      good = add_case(n, static_cast<Kind>(kind), random, digest) && good;
    }
  }
  if (!good) {
    std::puts("replay_draws: a weight was wrongly taken or refused, or could not be drawn by");
    return 1;
  }
  std::printf("replay_draws: %016llx\n", digest.value());
  return 0;
}
