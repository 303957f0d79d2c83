#include "envs/registry.h"

#include <map>
#include <stdexcept>

namespace tom::envs {

using Factory = std::unique_ptr<Task> (*)(const mjModel*, const Arguments&);

// Each is defined in the file of its task.
std::unique_ptr<Task> make_ant(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_half_cheetah(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_hopper(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_humanoid(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_humanoid_standup(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_inverted_double_pendulum(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_inverted_pendulum(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_pusher(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_reacher(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_swimmer(const mjModel*, const Arguments&);
std::unique_ptr<Task> make_walker2d(const mjModel*, const Arguments&);

namespace {

const std::map<std::string, Factory>& factories() {
  static const std::map<std::string, Factory> table = {
      {"Ant", make_ant},
      {"HalfCheetah", make_half_cheetah},
      {"Hopper", make_hopper},
      {"Humanoid", make_humanoid},
      {"HumanoidStandup", make_humanoid_standup},
      {"InvertedDoublePendulum", make_inverted_double_pendulum},
      {"InvertedPendulum", make_inverted_pendulum},
      {"Pusher", make_pusher},
      {"Reacher", make_reacher},
      {"Swimmer", make_swimmer},
      {"Walker2d", make_walker2d},
  };
  return table;
}

}  // namespace

std::unique_ptr<Task> make_task(const std::string& name, const mjModel* m, const Arguments& args) {
  auto found = factories().find(name);
  if (found == factories().end()) throw std::invalid_argument("there is no task " + name + ".");
  return found->second(m, args);
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const auto& entry : factories()) names.push_back(entry.first);
  return names;
}

}  // namespace tom::envs
