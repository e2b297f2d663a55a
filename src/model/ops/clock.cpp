#include "model/ops/clock.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast {

Frequency sustained_clock(const GpuSpec& gpu, const CalibrationSpec& calibration, double tensor_use,
                          double seconds) {
  const ClockConstants& clock = calibration.clock;
  const double highest = gpu.max_clock.count();
  const double loaded = std::min(clock.loaded_ghz.value * 1e9, highest);
  const double settled = 1 - std::exp(-seconds / (clock.settling_us.value * 1e-6));
  return Frequency(highest - (highest - loaded) * std::clamp(tensor_use, 0.0, 1.0) * settled);
}

}  // namespace pipecast
