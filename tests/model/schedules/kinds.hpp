/// What the tests of the kinds of schedules share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "model/schedules/schedule.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {

inline const ScheduleKind& kind(std::string_view name) {
  return Registry<ScheduleKind>::instance().find(name);
}

/// Durations of 1 to 1,000 ticks; the backward of both gradients takes what its parts take.
class RandomDurations {
 public:
  explicit RandomDurations(std::uint64_t seed) : generator_(seed) {}

  PassDurations next() {
    PassDurations out{.forward = tick(), .backward_input = tick(), .backward_weight = tick()};
    out.backward = out.backward_input + out.backward_weight;
    return out;
  }

 private:
  Duration tick() { return Duration(1 + static_cast<std::int64_t>(generator_() % 1'000)); }

  std::mt19937_64 generator_;
};

/// Between a rank's own first and last step: what it does not run.
inline Duration idle_within(const ScheduleTiming& timing, std::size_t rank) {
  const std::vector<StepTime>& steps = timing.steps.at(rank);
  Duration idle = steps.back().end - steps.front().start;
  for (const StepTime& step : steps) idle -= step.end - step.start;
  return idle;
}

/// The bubble that the kind publishes.
inline Duration published(std::string_view name, const PipelineShape& shape,
                          const PassDurations& durations) {
  return kind(name).bubble.value(shape, durations);
}

}  // namespace pipecast
