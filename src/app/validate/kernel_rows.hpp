/// Predicted kernels beside every measured table of traces/.
#pragma once

#include <filesystem>
#include <vector>

#include "app/validate/predictions.hpp"

namespace pipecast {

/// A GPU with its constants.
struct CalibratedGpu {
  GpuSpec gpu;
  CalibrationSpec calibration;
};

/// One row per table, and per family of the trace: the summed time of its kernels, in ms, and in
/// `errors` how far single kernels are off.
///
/// Products of less than 20 GFLOP, bound by latency, stand apart from larger ones. Kernels of the
/// trace (traced_kernels()) ran beside communication, on the SMs that it leaves: they are predicted
/// with the calibration's contention. Its small `elementwise` kernels count as one sum.
/// @param h800    the scenario of the trace
/// @param traces  the folder traces/
/// @throws Error for a table that cannot be read
std::vector<ValidationRow> kernel_rows(const Scenario& h800, const CalibratedGpu& h100,
                                       const std::filesystem::path& traces);

}  // namespace pipecast
