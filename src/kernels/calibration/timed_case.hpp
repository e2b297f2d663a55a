/// One kernel on one shape, ready to be timed: what the calibrator knows of a kernel family.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace pipecast::kernels {

struct TimedCase {
  std::function<void()> run{};      ///< enqueues it once on the current device
  std::function<double()> error{};  ///< of the last run's result, or of one of its own
  double tolerance = 0;             ///< that a right kernel's error does not exceed
  int launches = 1;                 ///< in one run, each of which counts
  std::function<void()> prepare{};  ///< before every run, outside of its time; may be empty
};

/// An operation's options by name, as `pipecast list operations` has them.
using CaseOptions = std::map<std::string, std::int64_t, std::less<>>;

/// What a file of cases/ registers in Registry<CaseMaker> under the operation's name.
struct CaseMaker {
  /// Allocates operands and fills them.
  /// @param sms  that the kernel may use; 0: all
  /// @return nothing for a shape that the kernel is not made for
  std::optional<TimedCase> (*make)(const CaseOptions& options, int sms) = nullptr;
};

}  // namespace pipecast::kernels
