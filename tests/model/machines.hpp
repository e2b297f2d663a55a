/// A machine in round numbers and a calibration of an ideal one, so that expected times are
/// formulas.
#pragma once

#include "model/specs/calibration.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast::testing {

/// Every kernel reaches its peak, every link its line rate; nothing has a latency of its own.
inline CalibrationSpec ideal_calibration() {
  const Constant one{.value = 1, .low = 1, .high = 1, .source = "ideal"};
  CalibrationSpec c;
  c.gpu = "round";
  for (Constant* constant :
       {&c.product.issue_bf16, &c.product.hbm, &c.product.one_wave_factor, &c.attention.cache_hbm,
        &c.attention.operand_hbm, &c.link.hbm, &c.link.nvlink, &c.link.nic, &c.contention.dispatch,
        &c.contention.cached_dispatch, &c.contention.combine}) {
    *constant = one;
  }
  c.clock.loaded_ghz.value = 1;  // the round GPU's only clock
  c.clock.settling_us.value = 1;
  c.product.tallest_tile.value = 256;
  c.product.widest_tile.value = 192;
  c.communication.bytes_per_second_per_sm.value = 1e12;
  c.memory.sm_bytes_per_cycle.value = 1e9;
  c.memory.conversion_bytes_per_cycle.value = 1e9;
  return c;
}

/// 100 SMs at 1 GHz: 100 TFLOP/s in BF16, 200 TFLOP/s in FP8, 1 TB/s of HBM.
inline GpuSpec round_gpu() {
  GpuSpec gpu;
  gpu.name = "round";
  gpu.sm_count = 100;
  gpu.tensor_clock = Frequency(1e9);
  gpu.max_clock = Frequency(1e9);
  gpu.bf16_flop_per_clock_per_sm = 1000;
  gpu.fp8_flop_per_clock_per_sm = 2000;
  gpu.hbm_bandwidth = Bandwidth(1e12);
  gpu.l2_capacity = Bytes(50'000'000);
  gpu.l2_bytes_per_clock_per_sm = 1e6;  // no limit
  gpu.shared_memory_bytes_per_clock_per_sm = 1e6;
  gpu.hbm_capacity = Bytes(80'000'000'000);
  return gpu;
}

/// Eight nodes of eight GPUs; 160 GB/s of NVLink and 50 GB/s of NIC per GPU and direction, the
/// rates of the flow simulations that DeepSeek-V3's dispatch is compared with.
inline ClusterSpec round_cluster() {
  ClusterSpec c;
  c.nodes = 8;
  c.gpus_per_node = 8;
  c.gpu = round_gpu();
  c.nvlink = {.bandwidth = Bandwidth(160e9), .latency = microseconds(1)};
  c.pcie = {.bandwidth = Bandwidth(64e9)};
  c.nic = {.per_gpu = 1, .bandwidth = Bandwidth(50e9), .latency = microseconds(3)};
  c.fabric = {.topology = "multi-plane-fat-tree",
              .planes = 8,
              .switch_ports = 8,
              .oversubscription = 1,
              .spine_latency = microseconds(2)};
  return c;
}

}  // namespace pipecast::testing
