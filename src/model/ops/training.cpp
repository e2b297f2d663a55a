#include "model/ops/training.hpp"

#include <algorithm>

namespace pipecast {

Operation TrainingMachine::kernel_of(Operation operation) const {
  ProductOptions& options = operation.product;
  if (is_product(operation) && operation.precision == Precision::kFp8 && options.block_m == 0) {
    options.block_m = options.block_n = static_cast<int>(calibration.product.training_tile.value);
  }
  return operation;
}

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
