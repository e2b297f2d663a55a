/// The YAML of a fitted calibration.
#pragma once

#include <string>

#include "app/calibration/studies.hpp"

namespace pipecast {

/// configs/calibration/GPU.yaml: every constant with value, range and source, four digits each, and
/// as comment what its study's rows and errors were.
/// @param command  what printed it, for the head of the file
std::string calibration_yaml(FittedCalibration fitted, const std::string& command);

}  // namespace pipecast
