/// The SM clock that a GPU sustains while its tensor cores draw power.
#pragma once

#include "model/specs/calibration.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

/// Falls from the GPU's highest clock towards `clock.loaded_ghz` in proportion to the share of the
/// chip's tensor-core cycles that do useful work, over the time that the power limit takes to bite:
/// a kernel of a few hundred microseconds ends before the clock has fallen, as measured.
/// Source: throttling reported by FlashMLA (docs/20250422); the law is fitted on traces/h100.
/// Not modelled: the chip's temperature, the power that memory draws, kernels that ran before.
/// @param tensor_use  0 .. 1
/// @param seconds     how long the load lasts, at the highest clock
Frequency sustained_clock(const GpuSpec& gpu, const CalibrationSpec& calibration, double tensor_use,
                          double seconds);

}  // namespace pipecast
