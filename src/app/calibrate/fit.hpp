/// From measurements to the constants of a calibration, through the studies of app/calibration.
#pragma once

#include <vector>

#include "app/calibrate/session.hpp"
#include "app/calibration/studies.hpp"

namespace pipecast {

/// The machine's calibration with every constant that the rows decide fitted anew.
///
/// A constant is fitted where at least two rows of its family depend on it, and no family fits more
/// constants than half its rows: those on which its rows depend most come first. Every other
/// constant keeps the machine's value, and its source begins with kNotMeasured. Our kernels have
/// one tile and no cast in their times, so constants that describe other kernels' tiles are stated.
/// The range is that of run_study(); the spread the median of the rows'.
/// @param rows     with at least one that was timed
/// @param machine  outlives the result's studies
/// @throws Error as run_study()
FittedCalibration fit_measurements(const std::vector<SessionRow>& rows,
                                   const KernelMachine& machine, const DeviceStamp& device);

inline constexpr const char* kNotMeasured = "not measured here: ";

}  // namespace pipecast
