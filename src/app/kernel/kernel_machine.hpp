/// One GPU with the constants of its kernels, and what it makes of an operation.
#pragma once

#include <optional>
#include <string>

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

struct KernelMachine {
  GpuSpec gpu;
  CalibrationSpec calibration;
  std::string calibration_file;  ///< as the user typed it, or below the shipped configs/

  [[nodiscard]] bool measured_on_this_gpu() const { return calibration.gpu == gpu.name; }
};

/// @param gpu  a shipped GPU's name, or the path of a YAML file
/// @param calibration  path of a file; by default the shipped one of the GPU's name, or the H800's
///                     where none was measured
/// @throws Error for unknown names, naming the nearest, and for files as load_gpu
KernelMachine kernel_machine(const std::string& gpu, const std::optional<std::string>& calibration);

struct KernelPrediction {
  Operation operation;
  int sms = 0;
  KernelCost cost{};
};

/// @param sms  all if not given
/// @throws Error if the GPU has not that many, lacks the precision, or would take minutes
KernelPrediction predict_kernel(const Operation& operation, const KernelMachine& machine,
                                std::optional<std::int64_t> sms);

/// What the operation could reach at best on these SMs by the vendor's numbers: tensor cores, or
/// CUDA cores where it uses none.
FlopRate peak_rate(const Operation& operation, const GpuSpec& gpu, int sms);

/// Least time by the vendor's numbers: peak rate and the memory's line rate.
Duration roofline_time(const KernelPrediction& prediction, const GpuSpec& gpu);

}  // namespace pipecast
