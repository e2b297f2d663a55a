/// What the launches of a chunk, simulated or measured, add up to.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/tables/launch_table.hpp"
#include "model/specs/phase.hpp"

namespace pipecast {

/// What a launch is for.
enum class LaunchRole {
  kCompute,
  kCommunication,  ///< dispatch, combine and what else runs for them on their stream
  kNotify,         ///< exchange of token counts, which waits for peers
};

LaunchRole role_of(const TraceRow& row);

/// @param row  with a phase as read_trace() accepts it
Phase phase_of(const TraceRow& row);

/// Microseconds of a phase: each taken per layer, then summed.
struct PhaseTimes {
  double time_us = 0;     ///< from the first start to the last end; of what is run again, too
  double compute_us = 0;  ///< during which at least one kernel of that role ran; so below
  double communication_us = 0;
  double notify_us = 0;
};

struct OpTimes {
  std::size_t count = 0;
  double time_us = 0;  ///< sum of durations
};

struct ChunkMeasures {
  double time_us = 0;  ///< from the first start to the last end
  std::array<std::optional<PhaseTimes>, kPhases> phases{};  ///< of those that were launched
  double compute_busy_us = 0;  ///< streams compute and wgrad_side: at least one is busy
  double comm_busy_us = 0;     ///< stream comm
  double computing_us = 0;     ///< on whichever stream: at least one kernel computes
  /// Communication without notify kernels: while no kernel computes, and while one does.
  double exposed_communication_us = 0;
  double hidden_communication_us = 0;
  std::map<std::string, OpTimes> ops{};
};

/// @param rows  in any order; phases and streams as read_trace() accepts them
ChunkMeasures measure_chunk(const std::vector<TraceRow>& rows);

/// A stretch of time in microseconds.
struct BusyInterval {
  double start = 0;
  double end = 0;
};

/// Time that at least one interval covers.
double covered_us(std::vector<BusyInterval> intervals);

}  // namespace pipecast
