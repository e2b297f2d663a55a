#include "app/config/sections/sections.hpp"

namespace pipecast::config {

void describe(Fields& f, GpuSpec& gpu) {
  f.required("name", gpu.name, "name of the part, as calibrations refer to it");
  f.required("sm_count", gpu.sm_count, "streaming multiprocessors", at_least(1));
  f.required("tensor_clock", gpu.tensor_clock, "SM clock of the vendor's tensor-core peak", kClock);
  f.required("bf16_flop_per_clock_per_sm", gpu.bf16_flop_per_clock_per_sm,
             "dense BF16 tensor-core operations per clock and SM", at_least(64));
  f.required("fp8_flop_per_clock_per_sm", gpu.fp8_flop_per_clock_per_sm,
             "dense FP8 tensor-core operations per clock and SM; 0 if there are none", at_least(0));
  f.check(gpu.fp8_flop_per_clock_per_sm == 0 || gpu.fp8_flop_per_clock_per_sm >= 64,
          "fp8_flop_per_clock_per_sm", "{} is below 64, less than any tensor core does",
          gpu.fp8_flop_per_clock_per_sm);
  f.required("hbm_bandwidth", gpu.hbm_bandwidth, "memory bandwidth", kMemoryRate);
  f.required("hbm_capacity", gpu.hbm_capacity, "memory that the device shows", positive());
  f.required("l2_capacity", gpu.l2_capacity, "size of the L2 cache", positive());
  f.required("shared_memory_per_sm", gpu.shared_memory_per_sm, "shared memory of one SM",
             positive());
  f.required("fp32_vector_peak", gpu.fp32_vector_peak, "FP32 rate of the CUDA cores, whole GPU",
             kComputeRate);
}

}  // namespace pipecast::config
