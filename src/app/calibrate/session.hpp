/// Measuring what is planned, one after the other: with a limit on the time, and going on where an
/// earlier start ended. Knows no GPU: who measures is given.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "app/calibrate/measurement_table.hpp"

namespace pipecast {

struct CalibrationSession {
  std::function<Measurement(const PlannedMeasurement&)> measure{};
  std::function<double()> elapsed_s{};   ///< since the start
  std::optional<double> time_limit_s{};  ///< nothing is begun after it
  std::function<void(std::string_view stage, double fraction)> progress{};
};

/// A planned measurement with what came of it.
struct SessionRow {
  const PlannedMeasurement* planned = nullptr;
  Measurement measurement{};
  bool earlier = false;  ///< taken from the table of an earlier start
};

struct SessionResult {
  std::vector<SessionRow> rows{};  ///< in the plan's order, those that were not reached left out
  std::size_t not_reached = 0;     ///< because of the time limit
};

/// Rows that the table has are taken from it; timed ones are added to it at once. Wrong results and
/// missing kernels are not: a later start tries again.
/// @param plan  outlives the result
SessionResult run_session(const std::vector<PlannedMeasurement>& plan, MeasurementTable& table,
                          const CalibrationSession& session);

}  // namespace pipecast
