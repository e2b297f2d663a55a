/// One schedule, generated or read, checked and timed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/schedules/idle.hpp"
#include "model/schedules/live_chunks.hpp"

namespace pipecast {

/// What a schedule is timed with.
struct StageCosts {
  ScheduleCosts costs;
  std::vector<StageBytes> bytes;  ///< none, one entry, or one per stage
};

/// Costs for the stages of a path, the micro-batches and the ranks that a schedule turns out to
/// have.
using CostsOf = std::function<StageCosts(int stages, int microbatches, int ranks)>;

/// What a schedule is made for; 0 where a file says it.
struct ScheduleRequest {
  int ranks = 0;
  int microbatches = 0;
  int virtual_stages = 0;    ///< 0: the kind's own
  int activation_limit = 0;  ///< for the searched kind; 0: its own
};

struct ScheduleStudy {
  std::string kind;
  int virtual_stages = 1;    ///< stages of a path on one rank
  int parameter_copies = 1;  ///< ranks that hold a stage
  Schedule schedule;
  ScheduleTiming timing;
  std::vector<IdleTime> idle;  ///< [rank]
  std::string formula;         ///< of the bubble; empty where none is published
  Duration bound;              ///< makespan_bound() within the activation limit, if there is one
  /// The formula at the mean duration of every pass.
  std::optional<Duration> formula_value;
  std::vector<Bytes> peak_bytes;                 ///< [rank]; empty where sizes are not known
  std::optional<std::string> blocking_deadlock;  ///< what locks where transfers block

  [[nodiscard]] Duration largest_bubble() const;
  [[nodiscard]] Duration largest_inside() const;  ///< see IdleTime::inside
  [[nodiscard]] int largest_peak() const;         ///< of live activations
};

/// @param kind  a registered name, or file:PATH
/// @throws ImpossiblePlan if the kind cannot have the shape, or a file's schedule has another one
/// @throws Error for an unknown kind, an unreadable file, or one whose schedule does not do a
///         step's work
ScheduleStudy study_schedule(const std::string& kind, const ScheduleRequest& request,
                             const CostsOf& costs_of);

}  // namespace pipecast
