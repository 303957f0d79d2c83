// The tasks, by the names of Gymnasium's environments without the version.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "envs/task.h"

namespace tom::envs {

// Throws std::invalid_argument for an unknown name or an argument of the wrong kind.
std::unique_ptr<Task> make_task(const std::string& name, const mjModel* m, const Arguments& args);

std::vector<std::string> task_names();

}  // namespace tom::envs
