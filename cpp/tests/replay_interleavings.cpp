// Every interleaving of a few calls on tiny buffers: the real sources, compiled with
// TOM_INTERLEAVE. The memory is sequentially consistent here; that the weaker orders suffice is
// argued in the headers, and watched by ThreadSanitizer in replay_stress. The last examples are
// broken on purpose: the explorer must find the fault.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replay/replay_buffer.h"
#include "tests/interleave/explorer.h"

namespace {

using interleave::Explorer;
using tom::replay::Generations;
using tom::replay::Hold;
using tom::replay::ReplayBuffer;
using tom::replay::RowStore;
using tom::replay::WeightTree;

Explorer explorer;
bool expects_faults = false;
int faults = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  ++faults;
  if (expects_faults) return;
  std::fprintf(stderr, "interleavings: %s\n", what);
  std::abort();
}

void explore(const char* name, const std::function<Explorer::Example()>& make,
             std::size_t limit = Explorer::kUnlimited) {
  const std::size_t states = explorer.explore(make, limit);
  std::printf("%-40s %9zu states in %9zu runs", name, states, explorer.runs());
  if (limit != Explorer::kUnlimited) std::printf(", at most %zu interruptions", limit);
  std::puts("");
}

void explore_broken(const char* name, const std::function<Explorer::Example()>& make) {
  expects_faults = true;
  faults = 0;
  explorer.explore(make, 3);
  expects_faults = false;
  check(faults > 0, name);
  std::printf("%-50s %9d faults found, as they must\n", name, faults);
}

void append(RowStore& rows, float value) {
  const std::vector<float> row(rows.width(), value);
  const std::uint64_t ticket = rows.claim(1);
  rows.write(ticket, row.data());
  rows.settle(ticket, 1);
}

void check_whole(const std::vector<float>& row) {
  for (const float x : row) check(x == row[0], "a row is torn");
}

// Two producers write one slot on successive laps, while a reader reads it.
Explorer::Example rows_are_whole() {
  auto rows = std::make_shared<RowStore>(1, 4);
  append(*rows, 1.0F);
  const auto reader = [rows] {
    std::vector<float> row(4);
    rows->read(0, row.data());
    check_whole(row);
  };
  const auto finally = [rows] { check(rows->settled() == 3, "a ticket has not settled"); };
  return {{[rows] { append(*rows, 2.0F); }, [rows] { append(*rows, 3.0F); }, reader}, finally};
}

// Whoever settles last moves the count over all; it never passes a row that cannot be read.
Explorer::Example settled_rows_can_be_read() {
  auto rows = std::make_shared<RowStore>(2, 2);
  const auto reader = [rows] {
    const std::uint64_t settled = rows->settled();
    for (std::size_t slot = 0; slot < settled; ++slot) {
      check(rows->has_row(slot), "a row was counted too early");
    }
  };
  const auto finally = [rows] { check(rows->settled() == 2, "a ticket has not settled"); };
  return {{[rows] { append(*rows, 1.0F); }, [rows] { append(*rows, 2.0F); }, reader}, finally};
}

void update(WeightTree& tree, std::size_t slot, double weight) {
  const auto s = static_cast<std::int64_t>(slot);
  tree.update({&s, 1}, {&weight, 1});
}

std::shared_ptr<WeightTree> tree_of_ones(std::size_t n) {
  auto tree = std::make_shared<WeightTree>(n);
  tree->rebuild(std::span<const double>(std::vector<double>(n, 1.0)), n);
  return tree;
}

// Two updates under one stamp: when both are done every sum is the sum of its children, as a find
// at each boundary between two slots shows.
Explorer::Example sums_fit_after_updates(std::size_t n, std::size_t first, std::size_t second) {
  auto tree = tree_of_ones(n);
  const auto finally = [tree, n, first, second] {
    check(tree->total() == static_cast<double>(n) - 2 + 5 + 7,
          "the total does not fit the weights");
    double before = 0.0;
    for (std::size_t slot = 0; slot < n; ++slot) {
      const double w = slot == first ? 5 : slot == second ? 7 : 1;
      const double inside = before + 0.5 * w;
      std::int64_t found = -1;
      tree->find({&inside, 1}, &found);
      check(found == static_cast<std::int64_t>(slot), "a sum does not fit the weights");
      before += w;
    }
  };
  return {
      {[tree, first] { update(*tree, first, 5); }, [tree, second] { update(*tree, second, 7); }},
      finally};
}

// Slot 1 goes from 0 to 4 while slot 0 goes from 4 to 0; a draw finds either, or nothing, but no
// slot that has weight 0 throughout.
Explorer::Example finds_positive_weights(double target) {
  auto tree = std::make_shared<WeightTree>(16);
  tree->rebuild(std::span<const double>(std::vector<double>{4, 0, 0, 2, 0, 0, 0, 0, 0}), 9);
  const auto writer = [tree] {
    const std::vector<std::int64_t> slots{1, 0};
    const std::vector<double> weights{4, 0};
    tree->update(slots, weights);
  };
  const auto reader = [tree, target] {
    std::int64_t slot = -2;
    tree->find({&target, 1}, &slot);
    check(slot == 0 || slot == 1 || slot == 3 || slot == -1, "a slot of weight 0 was found");
  };
  return {{writer, reader}, [] {}};
}

// Two setters, of whom the second may take up what the first has replaced, and a reader: what the
// reader holds does not change under it.
Explorer::Example generations_do_not_change(bool hold_on) {
  auto generations = std::make_shared<Generations>(2);
  const auto set = [generations](double w) {
    Hold taken = generations->take_idle();
    taken.tree().store(0,
                       w);  // in place of a rebuild, of which every access would multiply the runs
    taken.tree().store(1, w);
    generations->publish(std::move(taken), 2, [](const WeightTree&, WeightTree&, std::size_t) {});
  };
  const auto reader = [generations, hold_on] {
    std::optional<Hold> hold(generations->hold());
    const WeightTree& tree = hold->tree();
    if (!hold_on) hold.reset();
    check(tree.weight(0) == tree.weight(1), "a generation has changed under its reader");
  };
  return {{[set] { set(2); }, [set] { set(3); }, reader}, [] {}};
}

// An append and an update of a new row while a rewrite covers only the older row.
Explorer::Example no_weight_is_lost() {
  auto buffer = std::make_shared<ReplayBuffer>(2, 2, 0);
  const std::vector<float> row{1.0F, 1.0F};
  const std::vector<double> three{3.0};
  buffer->append(row.data(), 1, three);
  const auto producer = [=] { buffer->append(row.data(), 1, three); };
  const auto setter = [=] {
    const std::vector<double> five{5.0};
    check(buffer->set_weights(std::span<const double>(five)), "5 is a good weight");
  };
  const auto finally = [=] {
    std::vector<double> w(2);
    buffer->weights(2, w.data());
    check(w[0] == 5.0 && w[1] == 3.0, "a weight was lost");
    check(buffer->total_weight() == 8.0, "the total does not fit the weights");
  };
  return {{producer, setter}, finally};
}

// Two rewrites that cover only the older row, while the newer one's weight changes: whichever
// generation the change goes into, and whoever carries it on, it is not lost. That weight lies in
// the leaf, or beside it where no float32 equals it.
Explorer::Example no_weight_is_lost_between_two_rewrites(double first, double changed) {
  auto buffer = std::make_shared<ReplayBuffer>(2, 2, 0);
  const std::vector<float> row{1.0F, 1.0F, 1.0F, 1.0F};
  const std::vector<double> old{first}, updated{changed};
  buffer->append(row.data(), 2, old);
  const auto setter = [buffer] {
    const std::vector<double> five{5.0};
    check(buffer->set_weights(std::span<const double>(five)), "5 is a good weight");
  };
  const auto updater = [=] {
    const std::int64_t slot = 1;
    buffer->update_weights({&slot, 1}, updated);
  };
  const auto finally = [=] {
    std::vector<double> w(2);
    buffer->weights(2, w.data());
    check(w[0] == 5.0 && w[1] == changed, "a weight was lost between two rewrites");
    check(buffer->total_weight() == 5.0 + changed, "the total does not fit the weights");
  };
  return {{setter, setter, updater}, finally};
}

// What RowStore would be without its sequence words.
Explorer::Example rows_without_sequence_words() {
  auto words = std::make_shared<std::vector<std::uint64_t>>(2);
  const auto writer = [words] {
    for (auto& word : *words) tom::replay::AtomicRef<std::uint64_t>(word).store(1);
  };
  const auto reader = [words] {
    const auto first = tom::replay::AtomicRef<std::uint64_t>((*words)[0]).load();
    const auto second = tom::replay::AtomicRef<std::uint64_t>((*words)[1]).load();
    check(first == second, "a row is torn");
  };
  return {{writer, reader}, [] {}};
}

// What WeightTree would be without stamps: each thread stores the sum that it saw.
Explorer::Example sums_without_stamps() {
  auto words = std::make_shared<std::vector<std::uint64_t>>(3);
  const auto writer = [words](std::size_t leaf) {
    using tom::replay::AtomicRef;
    AtomicRef<std::uint64_t>((*words)[leaf]).store(1);
    const auto sum =
        AtomicRef<std::uint64_t>((*words)[0]).load() + AtomicRef<std::uint64_t>((*words)[1]).load();
    AtomicRef<std::uint64_t>((*words)[2]).store(sum);
  };
  const auto finally = [words] { check((*words)[2] == 2, "the sum does not fit"); };
  return {{[writer] { writer(0); }, [writer] { writer(1); }}, finally};
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  explore("settled rows can be read", settled_rows_can_be_read);
  explore("rows are whole", rows_are_whole);
  explore("sums fit after updates of one block", [] { return sums_fit_after_updates(16, 3, 4); });
  explore("sums fit after updates of two blocks", [] { return sums_fit_after_updates(32, 3, 20); });
  explore("sums fit after updates of two nodes",
          [] { return sums_fit_after_updates(256, 3, 200); });
  for (const double target : {3.9, 5.9}) {
    explore("finds have positive weights", [=] { return finds_positive_weights(target); });
  }
  explore("generations do not change", [] { return generations_do_not_change(true); }, 4);
  explore("no weight is lost", no_weight_is_lost, 5);
  for (const double off : {0.0, 0.1}) {  // float32 weights, and others
    explore(
        "no weight is lost between two rewrites",
        [=] { return no_weight_is_lost_between_two_rewrites(3 + off, 4 + off); }, 2);
  }
  explore_broken("rows without sequence words", rows_without_sequence_words);
  explore_broken("sums without stamps", sums_without_stamps);
  explore_broken("generations without holders", [] { return generations_do_not_change(false); });
  std::puts("replay_interleavings: all promises held");
}
