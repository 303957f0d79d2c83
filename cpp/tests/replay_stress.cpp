// All methods of the replay buffer from many threads at once. Each row is filled with one number,
// so that a torn row shows; half of the slots get weight 0, and must not be drawn.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "replay/replay_buffer.h"

namespace {

using tom::replay::ReplayBuffer;

void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "replay_stress: %s\n", what);
  std::abort();
}

void run_together(const std::vector<std::function<void()>>& jobs) {
  std::vector<std::thread> threads;
  for (const auto& job : jobs) threads.emplace_back(job);
  for (auto& thread : threads) thread.join();
}

void check_whole(const std::vector<float>& rows, std::size_t width) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    check(rows[i] == rows[i - i % width], "a row is torn");
  }
}

// Producers lap each other all the time in a ring this small; readers must never see a mixture.
void rows_are_whole(std::size_t capacity, std::size_t width, int rounds) {
  ReplayBuffer buffer(capacity, width, 1);
  const std::vector<double> one{1.0};
  buffer.append(std::vector<float>(capacity * width).data(), capacity, one);
  std::atomic<int> producing{3};
  const auto produce = [&](int id) {
    for (int i = 0; i < rounds; ++i) {
      const std::size_t n = 1 + i % capacity;
      buffer.append(std::vector<float>(n * width, static_cast<float>(3 * i + id)).data(), n, one);
    }
    producing.fetch_sub(1);
  };
  const auto consume = [&] {
    std::vector<std::int64_t> slots(64);
    std::vector<float> rows(64 * width);
    while (producing.load() > 0) {
      check(buffer.draw(64, false, slots.data()), "a full buffer has something to draw");
      buffer.gather(slots, rows.data());
      check_whole(rows, width);
      buffer.newest(capacity, slots.data());
      check(buffer.draw_uniform(64, slots.data()), "a full buffer is not empty");
    }
  };
  run_together({[&] { produce(0); }, [&] { produce(1); }, [&] { produce(2); }, consume, consume});
  std::uint64_t appended = capacity;
  for (int i = 0; i < rounds; ++i) appended += 3 * (1 + i % capacity);
  check(buffer.total_appended() == appended, "every row has settled");
  check(buffer.total_weight() == static_cast<double>(capacity), "every row has weight 1");
}

// Even slots always have weight 0, odd ones never; full rewrites and point updates overlap.
void zero_weights_are_never_drawn(int rounds) {
  constexpr std::size_t kSize = 300;
  ReplayBuffer buffer(kSize, 1, 2);
  std::vector<double> weights(kSize);
  std::vector<std::int64_t> odd;
  for (std::size_t i = 1; i < kSize; i += 2) {
    weights[i] = static_cast<double>(i);
    odd.push_back(static_cast<std::int64_t>(i));
  }
  buffer.append(std::vector<float>(kSize).data(), kSize, weights);
  std::atomic<int> writing{3};
  const auto rewrite = [&] {
    for (int i = 0; i < rounds; ++i) {
      check(buffer.set_weights(std::span<const double>(weights)), "the weights are good");
    }
    writing.fetch_sub(1);
  };
  const auto update = [&] {
    std::vector<double> values(odd.size());
    for (int i = 0; i < rounds; ++i) {
      for (std::size_t k = 0; k < odd.size(); ++k) values[k] = 1.0 + (i + 7 * k) % 100;
      buffer.update_weights(odd, values);
    }
    writing.fetch_sub(1);
  };
  const auto consume = [&] {
    std::vector<std::int64_t> slots(100);
    std::vector<double> seen(kSize);
    while (writing.load() > 0) {
      check(buffer.draw(100, true, slots.data()), "half of the weights are positive");
      for (const std::int64_t slot : slots) check(slot % 2 == 1, "a row of weight 0 was drawn");
      buffer.weights(kSize, seen.data());
      for (std::size_t i = 0; i < kSize; i += 2) check(seen[i] == 0.0, "weight 0 stays 0");
      check(buffer.effective_sample_size() > 0.0, "half of the weights are positive");
    }
  };
  run_together({rewrite, update, update, consume, consume});
  const std::vector<double> ones(kSize, 1.0);
  buffer.update_weights(odd, ones);
  check(buffer.total_weight() == kSize / 2, "the sums fit the weights when all is quiet");
}

// Bursts of overlapping updates of slots that share stamps and slots that do not. A later update
// would mend a sum that an earlier one left wrong, so the sums are looked at after each burst.
void sums_fit_after_each_burst(int rounds) {
  constexpr std::size_t kSize = 20'000, kSlots = 64;
  constexpr int kThreads = 2;
  ReplayBuffer buffer(kSize, 1, 4);
  const std::vector<double> ones{1.0};
  buffer.append(std::vector<float>(kSize).data(), kSize, ones);
  std::vector<double> weights(kSize);
  std::atomic<int> arrived{0};
  const auto wait_for_all = [&](int turn) {  // awake, so that both go on at the same moment
    arrived.fetch_add(1);
    for (int spins = 0; arrived.load() < kThreads * turn; ++spins) {
      if (spins > 10'000) std::this_thread::yield();
    }
  };
  const auto update = [&](int thread) {
    std::mt19937 random(static_cast<unsigned>(thread));
    std::vector<std::int64_t> slots(kSlots);
    std::vector<double> values(kSlots);
    for (int i = 0; i < rounds; ++i) {
      // Half of them below one stamp; whole weights so that their sum is exact in any order.
      for (std::size_t k = 0; k < kSlots; ++k) {
        slots[k] = static_cast<std::int64_t>(random() % (k < kSlots / 2 ? 300 : kSize));
        values[k] = static_cast<double>(random() % 8);
      }
      wait_for_all(3 * i + 1);
      buffer.update_weights(slots, values);
      wait_for_all(3 * i + 2);
      if (thread == 0) {
        buffer.weights(kSize, weights.data());
        const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
        check(buffer.total_weight() == sum, "the sums fit the weights after a burst");
      }
      wait_for_all(3 * i + 3);
    }
  };
  run_together({[&] { update(0); }, [&] { update(1); }});
}

// A rewrite that covers only the first rows must not lose the weights of those appended meanwhile.
void appended_weights_survive_rewrites(int rounds) {
  constexpr std::size_t kFirst = 40;
  const std::size_t capacity = kFirst + 2 * static_cast<std::size_t>(rounds);
  ReplayBuffer buffer(capacity, 1, 3);
  const std::vector<double> three{3.0};
  buffer.append(std::vector<float>(kFirst).data(), kFirst, three);
  std::atomic<int> producing{2};
  const auto produce = [&] {
    const float row = 0.0F;
    for (int i = 0; i < rounds; ++i) {
      const auto slot = static_cast<std::int64_t>(buffer.append(&row, 1, three));
      const double two = 2.0;
      if (i % 2 == 0) buffer.update_weights({&slot, 1}, {&two, 1});
    }
    producing.fetch_sub(1);
  };
  const auto rewrite = [&] {
    const std::vector<float> weights(kFirst, 5.0F);
    do {
      check(buffer.set_weights(std::span<const float>(weights)), "the weights are good");
    } while (producing.load() > 0);
  };
  run_together({produce, produce, rewrite, rewrite});
  check(buffer.total_weight() == 5.0 * kFirst + 5.0 * rounds, "no weight was lost");
}

// What a refused restore has read must not come back with a later rewrite.
void refused_restores_change_nothing() {
  ReplayBuffer buffer(64, 1, 4);
  const std::vector<float> rows(64);
  const std::vector<double> one{1.0};
  buffer.append(rows.data(), 4, one);
  std::vector<double> bad(40, 1.0);
  bad.back() = -1.0;
  check(!buffer.restore(rows.data(), bad, 40, 0, 0), "a negative weight is refused");
  check(buffer.size() == 4 && buffer.total_weight() == 4.0, "nothing was restored");
  const std::vector<double> last{0.0, 0.0, 0.0, 1.0};
  for (int i = 0; i < 3; ++i) {
    check(buffer.set_weights(std::span<const double>(last)), "the weights are good");
    check(buffer.total_weight() == 1.0, "no weight is left beyond the rows");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 2000;
  rows_are_whole(3, 4, rounds);
  rows_are_whole(7, 3, rounds);
  rows_are_whole(64, 8, rounds);
  zero_weights_are_never_drawn(rounds);
  sums_fit_after_each_burst(rounds);
  appended_weights_survive_rewrites(2 * (rounds / 2));
  refused_restores_change_nothing();
  std::puts("replay_stress: all promises held");
}
