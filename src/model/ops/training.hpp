/// The GPU as the kernels of a training step find it.
#pragma once

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

/// A GPU with the constants of its kernels in a training step.
struct TrainingMachine {
  GpuSpec gpu;
  CalibrationSpec calibration;

  /// An operation as training's kernels carry it out.
  [[nodiscard]] Operation kernel_of(Operation operation) const;

  /// @throws Error as kernel_cost()
  [[nodiscard]] KernelCost cost(const Operation& operation, int sms) const {
    return kernel_cost(kernel_of(operation), gpu, calibration, sms);
  }
};

/// What differs from a kernel alone on a rested chip: the clock is the one that the power limit
/// leaves through a whole step, whatever the kernel (`clock.training_ghz`, never above the GPU's
/// highest); FP8 products have one size of tile (`product.training_tile`); attention's forward
/// kernel is training's (`attention.training_exposed`).
/// Source: traces/h800_dualpipe_chunk, see docs/overlap.md.
/// Not modelled: clocks that fall and recover within a step.
TrainingMachine in_training(const GpuSpec& gpu, const CalibrationSpec& calibration);

}  // namespace pipecast
