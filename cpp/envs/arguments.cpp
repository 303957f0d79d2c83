#include "envs/arguments.h"

#include <stdexcept>

namespace tom::envs {
namespace {

std::string describe(const Arguments::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
  if (const double* number = std::get_if<double>(&value)) return std::to_string(*number);
  if (const Range* range = std::get_if<Range>(&value)) {
    return "(" + std::to_string(range->first) + ", " + std::to_string(range->second) + ")";
  }
  return "'" + std::get<std::string>(value) + "'";
}

[[noreturn]] void refuse(const std::string& name, const Arguments::Value& given,
                         const char* allowed) {
  throw std::invalid_argument(name + " is " + describe(given) + ", but it must be " + allowed +
                              ".");
}

}  // namespace

const Arguments::Value& Arguments::value(const std::string& name) const {
  auto found = values_.find(name);
  if (found == values_.end()) throw std::invalid_argument("the argument " + name + " is missing.");
  return found->second;
}

double Arguments::number(const std::string& name) const {
  const Value& given = value(name);
  if (const double* number = std::get_if<double>(&given)) return *number;
  if (const bool* flag = std::get_if<bool>(&given)) return *flag ? 1.0 : 0.0;  // as Python does
  refuse(name, given, "a number");
}

bool Arguments::flag(const std::string& name) const {
  const Value& given = value(name);
  if (const bool* flag = std::get_if<bool>(&given)) return *flag;
  refuse(name, given, "True or False");
}

Range Arguments::range(const std::string& name) const {
  const Value& given = value(name);
  if (const Range* range = std::get_if<Range>(&given)) return *range;
  refuse(name, given, "a pair of numbers (lower, upper)");
}

}  // namespace tom::envs
