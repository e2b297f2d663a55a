/// Time of one kernel alone on some of a GPU's SMs: a roofline whose efficiencies were measured.
#pragma once

#include <string_view>

#include "base/registry.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/calibration.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

/// What limits a kernel.
enum class Bound { kTensor, kHbm, kLatency };

constexpr std::string_view name_of(Bound bound) {
  switch (bound) {
    case Bound::kTensor:
      return "tensor";
    case Bound::kHbm:
      return "hbm";
    case Bound::kLatency:
      return "latency";
  }
  return "";
}

struct KernelCost {
  Duration time;
  Flops flops;
  Bytes hbm_bytes;
  Bound bound{};
};

/// What a kernel's file registers, under the operation's name.
struct KernelKind {
  /// @param sms  SMs that the kernel may use, 1 .. gpu.sm_count
  /// @throws Error if the GPU lacks the precision
  KernelCost (*cost)(const Operation&, const GpuSpec&, const CalibrationSpec&, int sms) = nullptr;
  /// The measured constant that decides the time of a large one.
  const Constant& (*constant)(const CalibrationSpec&) = nullptr;
};

/// Cost of `operation` by the kernel registered under its name.
/// @throws Error for an operation without a kernel, naming the known ones
KernelCost kernel_cost(const Operation& operation, const GpuSpec& gpu,
                       const CalibrationSpec& calibration, int sms);

/// The slower of tensor cores and HBM, never below the shortest kernel. For the kernels' files.
/// @param tensor_rate  flop/s reached on useful work
KernelCost roofline(const Operation& operation, FlopRate tensor_rate, const GpuSpec& gpu,
                    const CalibrationSpec& calibration);

/// Bytes over the HBM bandwidth that streaming kernels reach, never below the shortest kernel.
KernelCost streaming(const Operation& operation, const GpuSpec& gpu,
                     const CalibrationSpec& calibration);

}  // namespace pipecast
