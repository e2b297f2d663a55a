#include "app/calibrate/session.hpp"

#include <fmt/format.h>

namespace pipecast {

SessionResult run_session(const std::vector<PlannedMeasurement>& plan, MeasurementTable& table,
                          const CalibrationSession& session) {
  SessionResult out;
  std::size_t done = 0;
  for (const PlannedMeasurement& planned : plan) {
    if (session.progress) {
      session.progress(fmt::format("{}/{} {}", done + 1, plan.size(), planned.name),
                       static_cast<double>(done) / static_cast<double>(plan.size()));
    }
    ++done;
    if (const Measurement* const known = table.find(planned)) {
      out.rows.push_back({&planned, *known, true});
      continue;
    }
    if (session.time_limit_s && session.elapsed_s() >= *session.time_limit_s) {
      ++out.not_reached;
      continue;
    }
    const Measurement measured = session.measure(planned);
    if (measured.outcome == Measurement::Outcome::kTimed) table.add(planned, measured);
    out.rows.push_back({&planned, measured, false});
  }
  return out;
}

}  // namespace pipecast
