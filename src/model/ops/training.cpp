#include "model/ops/training.hpp"

#include <algorithm>

namespace pipecast {

TrainingMachine in_training(const GpuSpec& gpu, const CalibrationSpec& calibration) {
  constexpr double kHertz = 1e9;
  TrainingMachine out{gpu, calibration};
  const double clock =
      std::min(gpu.max_clock.count(), calibration.clock.training_ghz.value * kHertz);
  out.gpu.max_clock = Frequency(clock);
  out.calibration.clock.loaded_ghz.value = clock / kHertz;
  out.calibration.attention.forward_exposed.value = calibration.attention.training_exposed.value;
  return out;
}

}  // namespace pipecast
