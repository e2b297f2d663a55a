/// One GPU as its vendor describes it. What kernels reach of these rates is calibration.
#pragma once

#include <cstdint>
#include <string>

#include "base/units.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

struct GpuSpec {
  std::string name;
  int sm_count = 0;
  Frequency tensor_clock;  ///< SM clock at which the vendor states the tensor-core peak
  Frequency max_clock;     ///< highest SM clock, without load on the tensor cores
  double bf16_flop_per_clock_per_sm = 0;  ///< dense
  double fp8_flop_per_clock_per_sm = 0;   ///< dense; 0 where the tensor cores know no FP8
  Bandwidth hbm_bandwidth;
  Bytes hbm_capacity;  ///< what the device shows, bytes
  Bytes l2_capacity;
  Bytes shared_memory_per_sm;
  double l2_bytes_per_clock_per_sm = 0;             ///< from L2 into one SM
  double shared_memory_bytes_per_clock_per_sm = 0;  ///< from shared memory
  bool fp8_full_accumulation = false;  ///< tensor cores accumulate FP8 products in FP32; Hopper's
                                       ///< keep 14 bits (DeepSeek-V3, section 3.3.2)
  bool fp8_native_scaling = false;     ///< tensor cores apply scales of 128 elements
  FlopRate fp32_vector_peak;           ///< CUDA cores, whole GPU

  /// Dense operations of the tensor cores per clock and SM; 0 where they do not know the format.
  /// @param p  kFp8 or kBf16
  [[nodiscard]] double tensor_flop_per_clock_per_sm(Precision p) const {
    return p == Precision::kFp8 ? fp8_flop_per_clock_per_sm : bf16_flop_per_clock_per_sm;
  }

  /// Dense peak of the tensor cores of `sms` SMs.
  /// @param p  kFp8 or kBf16; FP32 and E5M6 have no tensor-core rate of their own and break the
  /// assertion
  [[nodiscard]] FlopRate tensor_peak(Precision p, int sms) const {
    PIPECAST_ASSERT(p == Precision::kBf16 || p == Precision::kFp8);
    return FlopRate(tensor_flop_per_clock_per_sm(p) * tensor_clock.count() * sms);
  }
};

}  // namespace pipecast
