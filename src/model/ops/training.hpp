/// The GPU as the kernels of a training step find it.
#pragma once

#include "model/specs/calibration.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

/// A GPU with the constants of its kernels.
struct TrainingMachine {
  GpuSpec gpu;
  CalibrationSpec calibration;
};

/// What differs from a kernel alone on a rested chip: the clock is the one that the power limit
/// leaves through a whole step, whatever the kernel (`clock.training_ghz`, never above the GPU's
/// highest), and attention's forward kernel is training's.
/// Source: traces/h800_dualpipe_chunk, whose products are slower by about the same factor at every
/// depth and with nothing beside them (docs/overlap.md).
/// Not modelled: clocks that fall and recover within a step.
TrainingMachine in_training(const GpuSpec& gpu, const CalibrationSpec& calibration);

}  // namespace pipecast
