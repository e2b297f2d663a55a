/// Which GPU of the shipped descriptions a device is, and other words of the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/specs/gpu.hpp"

namespace pipecast {

/// The GPU among `known` that a device is: one whose name stands as a word in the device's ("NVIDIA
/// H100 80GB HBM3": h100) and that has as many SMs.
/// @throws Error naming what was found and what is known
const GpuSpec& described_gpu(const std::string& device, int sm_count,
                             const std::vector<GpuSpec>& known);

/// "nvidia-h100-80gb-hbm3": a file's name for a device.
std::string file_name_of(std::string_view device);

/// Seconds of "90s", "10min" or "2h".
/// @throws Error that says what was expected
double parse_time_limit(std::string_view text);

/// Indices of the devices that "2" (the first two), "0,3" or "all" names.
/// @param present  devices of the machine
/// @throws Error for one that there is not, or the same twice
std::vector<int> parse_devices(std::string_view text, int present);

}  // namespace pipecast
