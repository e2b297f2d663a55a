/// Durations of passes by stage and micro-batch, whichever way the costs give them.
#pragma once

#include <cstddef>

#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

/// F, Bi and W take one each, a B its two parts and a pair all three: what is taken where nothing
/// is said.
inline constexpr PassDurations kUnitDurations{.forward = Duration(1),
                                              .backward = Duration(2),
                                              .backward_input = Duration(1),
                                              .backward_weight = Duration(1),
                                              .overlapped = Duration(3)};

/// Of a pass by itself.
constexpr Duration duration_of(Pass pass, const PassDurations& durations) {
  switch (pass) {
    case Pass::kForward:
      return durations.forward;
    case Pass::kBackward:
      return durations.backward;
    case Pass::kBackwardInput:
      return durations.backward_input;
    case Pass::kBackwardWeight:
      return durations.backward_weight;
  }
  return {};
}

class CostTable {
 public:
  /// @param microbatches  of all paths
  /// @throws Error if `costs` has neither one entry nor one per stage nor one per stage and
  ///         micro-batch
  CostTable(const ScheduleCosts& costs, int stages, int microbatches)
      : costs_(costs), microbatches_(static_cast<std::size_t>(microbatches)) {
    const std::size_t given = costs.passes.size();
    per_stage_ = given != 1;
    per_microbatch_ = per_stage_ && given != static_cast<std::size_t>(stages);
    require(!per_microbatch_ || given == static_cast<std::size_t>(stages) * microbatches_,
            "durations for {} stages; expected one set, one for each of the {} stages, or one for "
            "each stage and each of {} micro-batches",
            given, stages, microbatches_);
  }

  [[nodiscard]] bool per_microbatch() const { return per_microbatch_; }

  /// @param microbatch  counted over all paths
  [[nodiscard]] const PassDurations& of(int stage, int microbatch) const {
    if (!per_stage_) return costs_.passes.front();
    const auto s = static_cast<std::size_t>(stage);
    return costs_
        .passes[per_microbatch_ ? s * microbatches_ + static_cast<std::size_t>(microbatch) : s];
  }

  [[nodiscard]] Duration transfer_time() const { return costs_.transfer_time; }
  [[nodiscard]] Duration transfer_latency() const { return costs_.transfer_latency; }
  /// From the end of a pass on one rank until another rank can use its result, if the link is free.
  [[nodiscard]] Duration hop(int from, int to) const {
    return from == to ? Duration{} : costs_.transfer_time + costs_.transfer_latency;
  }

 private:
  const ScheduleCosts& costs_;
  std::size_t microbatches_;
  bool per_stage_ = false;
  bool per_microbatch_ = false;
};

}  // namespace pipecast
