/// What `pipecast calibrate` tells: what would be timed, and afterwards prediction beside
/// measurement.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/calibrate/session.hpp"
#include "app/calibration/studies.hpp"

namespace pipecast {

/// What a calibration is for and rests on.
struct CalibrateSubject {
  const KernelMachine& machine;
  std::string scenario{};
  DeviceStamp device{};  ///< empty in a dry run without a GPU
  std::string no_gpu{};  ///< why there is none; empty where there is one
  /// Whether this build has a kernel for a planned measurement.
  std::function<bool(const PlannedMeasurement&)> has_kernel{};
};

/// A table of what would be timed, with the simulator's own prediction of each.
std::string calibrate_plan_text(const CalibrateSubject& subject,
                                const std::vector<PlannedMeasurement>& plan);
nlohmann::ordered_json calibrate_plan_json(const CalibrateSubject& subject,
                                           const std::vector<PlannedMeasurement>& plan);

/// What came of it.
struct CalibrateOutcome {
  const SessionResult& session;
  std::optional<FittedCalibration> fitted{};  ///< nothing if nothing was timed
  std::string table{};                        ///< where the measurements lie
  std::string calibration{};                  ///< the file written, if there was something to fit
};

/// Measured and predicted beside each other, before and after the fit, by kind of kernel; then the
/// rows that are furthest off, what could not be timed and which constants were fitted.
std::string calibrate_text(const CalibrateSubject& subject, const CalibrateOutcome& outcome);
nlohmann::ordered_json calibrate_json(const CalibrateSubject& subject,
                                      const CalibrateOutcome& outcome);

}  // namespace pipecast
