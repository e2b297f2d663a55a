#include "app/config/sections/sections.hpp"

namespace pipecast::config {

void describe(Fields& f, GpuSpec& gpu) {
  f.required("name", gpu.name, "name of the part, as calibrations refer to it");
  f.required("sm_count", gpu.sm_count, "streaming multiprocessors", at_least(1));
  f.required("tensor_clock", gpu.tensor_clock, "SM clock of the vendor's tensor-core peak", kClock);
  f.required("max_clock", gpu.max_clock, "highest SM clock, tensor cores idle", kClock);
  f.check(gpu.max_clock >= gpu.tensor_clock, "max_clock", "is below tensor_clock");
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
  f.required("l2_bytes_per_clock_per_sm", gpu.l2_bytes_per_clock_per_sm,
             "bytes per clock from L2 into one SM", at_least(1));
  f.required("shared_memory_bytes_per_clock_per_sm", gpu.shared_memory_bytes_per_clock_per_sm,
             "bytes per clock from an SM's shared memory", at_least(1));
  f.optional("fp8_full_accumulation", gpu.fp8_full_accumulation,
             "whether tensor cores accumulate FP8 products in FP32; Hopper's keep 14 bits");
  f.optional("fp8_native_scaling", gpu.fp8_native_scaling,
             "whether tensor cores apply the scales of 128 elements themselves");
  f.required("fp32_vector_peak", gpu.fp32_vector_peak, "FP32 rate of the CUDA cores, whole GPU",
             kComputeRate);
}

}  // namespace pipecast::config
