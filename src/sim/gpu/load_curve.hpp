/// Times of a task as functions of what routing gave its GPU in that layer.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "base/units.hpp"
#include "model/specs/phase.hpp"

namespace pipecast {

/// What the communication stream does to the computation beside it.
enum class Beside : std::uint8_t {
  kNothing,
  kNotify,    ///< few SMs held
  kWaiting,   ///< the communication SMs held, nothing moves
  kDispatch,  ///< and tokens go through HBM
  kCombine,
};
inline constexpr std::size_t kBesides = 5;

/// What one GPU got in one layer of one micro-batch, over what balanced routing gives it.
struct TaskLoad {
  float rows = 1;      ///< rows of its experts, as Segments::rows_share() has them
  float received = 1;  ///< distinct tokens received
};

/// Times of a task, launch gaps included. Of computation: beside each of what communication does.
/// Of communication: beside nothing, in the first place of `time`, and beside computation.
struct TaskTimes {
  std::array<Duration, kBesides> time{};
  std::array<Duration, kPhases> beside_phase{};
};

/// Straight between samples at rows of 0, 1/16, 2/16, ... of the balanced load with received tokens
/// in proportion, straight on after the last one, and linear in received tokens beyond proportion.
class LoadCurve {
 public:
  static constexpr int kSteps = 16;     ///< up to the balanced load
  static constexpr int kMostLoads = 3;  ///< times the balanced load

  /// @param samples        kSteps * kMostLoads + 1 of them
  /// @param more_received  balanced rows, twice the balanced received tokens
  LoadCurve(std::vector<TaskTimes> samples, const TaskTimes& more_received)
      : samples_(std::move(samples)) {
    const TaskTimes& balanced = samples_[kSteps];
    for (std::size_t i = 0; i < kBesides; ++i) {
      by_received_.time[i] = more_received.time[i] - balanced.time[i];
    }
    for (std::size_t i = 0; i < kPhases; ++i) {
      by_received_.beside_phase[i] = more_received.beside_phase[i] - balanced.beside_phase[i];
    }
  }

  [[nodiscard]] Duration time(std::size_t beside, const TaskLoad& load) const {
    const Place at = place(load.rows);
    return value(samples_[at.below].time[beside], samples_[at.below + 1].time[beside],
                 by_received_.time[beside], at.share, load);
  }
  [[nodiscard]] Duration beside_phase(std::size_t phase, const TaskLoad& load) const {
    const Place at = place(load.rows);
    return value(samples_[at.below].beside_phase[phase], samples_[at.below + 1].beside_phase[phase],
                 by_received_.beside_phase[phase], at.share, load);
  }

 private:
  struct Place {
    std::size_t below = 0;
    double share = 0;  // of the way to the next sample
  };
  [[nodiscard]] Place place(double rows) const {
    const double position = rows * kSteps;
    const auto last = static_cast<double>(samples_.size() - 2);
    const auto below = static_cast<std::size_t>(position < 0      ? 0.0
                                                : position < last ? position
                                                                  : last);
    return {below, position - static_cast<double>(below)};
  }
  static Duration value(Duration below, Duration above, Duration by_received, double share,
                        const TaskLoad& load) {
    const auto a = static_cast<double>(below.count());
    const auto b = static_cast<double>(above.count());
    const double time = a + (b - a) * share +
                        static_cast<double>(by_received.count()) * (load.received - load.rows);
    return Duration(time > 1 ? static_cast<std::int64_t>(time + 0.5) : 1);  // to the nearest
  }

  std::vector<TaskTimes> samples_;
  TaskTimes by_received_;
};

}  // namespace pipecast
