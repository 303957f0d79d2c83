// The constructor arguments of a task, by the names that Gymnasium gives them.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <variant>

namespace tom::envs {

using Range = std::pair<double, double>;

class Arguments {
 public:
  using Value = std::variant<bool, double, Range, std::string>;

  void set(const std::string& name, Value value) { values_[name] = std::move(value); }

  // Each returns the argument, or throws std::invalid_argument with one sentence that names the
  // argument, what was given and what is allowed.
  double number(const std::string& name) const;
  bool flag(const std::string& name) const;
  Range range(const std::string& name) const;
  const Value& value(const std::string& name) const;

 private:
  std::map<std::string, Value> values_;
};

}  // namespace tom::envs
