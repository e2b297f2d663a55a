/// Failures that are the user's to mend. Libraries throw them; only the program's main catches.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace pipecast {

/// Bad input or bad usage: the message holds the offending values and what was expected. Exit
/// code 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Valid input that describes a plan which cannot run (no memory, no schedule). Exit code 1.
class ImpossiblePlan : public Error {
 public:
  using Error::Error;
};

/// Throws `Failure` with the formatted message unless the condition holds.
template <class Failure = Error, class... Args>
void require(bool condition, fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) throw Failure(fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace pipecast
