/// Progress of long work on the terminal.
#pragma once

#include <chrono>
#include <mutex>
#include <string_view>

namespace pipecast {

/// A bar on standard error, drawn only on a terminal and only once the work has taken two seconds.
class ProgressBar {
 public:
  /// @param wanted  false: never draws
  explicit ProgressBar(bool wanted);
  ~ProgressBar() { finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// @param fraction  0 .. 1; may be called from any thread
  void update(std::string_view stage, double fraction);

  /// Removes the bar.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::mutex mutex_;
  bool wanted_;
  bool drawn_ = false;
  Clock::time_point started_;
  Clock::time_point last_drawn_;
};

}  // namespace pipecast
