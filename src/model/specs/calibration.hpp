/// The free constants of the kernel and link models. Each is physical, fitted on kernel-level
/// measurements, and carries its plausible range; configs/calibration/ holds source and residual.
#pragma once

#include <string>

namespace pipecast {

struct Constant {
  double value = 0;
  double low = 0;
  double high = 0;
  std::string source;
};

/// Fractions of the dense tensor-core peak of the SMs in use, isolated kernels of at least 20
/// GFLOP.
struct TensorEfficiency {
  Constant gemm_fp8;
  Constant grouped_gemm_fp8;
  Constant gemm_fp8_wgrad;
  Constant gemm_bf16;
};

/// Attention kernels, src/model/ops/attention*.cpp. `exposed` ones count in the time that softmax
/// would take alone on the CUDA cores: 0 if it hides behind the tensor cores, more than 1 where
/// other work (conversions, layouts of registers) waits as well.
struct AttentionConstants {
  Constant throttle_us;             ///< load after which the clock falls to what power allows
  Constant launch_us;               ///< fixed time of each kernel in a chain of dependent ones
  Constant forward_exposed;         ///< BF16 operands
  Constant forward_exposed_fp8;     ///< FP8 operands
  Constant forward_tile_cycles;     ///< prologue and epilogue of a block of queries or keys
  Constant backward_exposed;        ///< also of the atomic sums of the query gradient
  Constant decode_exposed;          ///< BF16 cache
  Constant decode_exposed_fp8;      ///< FP8 cache
  Constant decode_page_cycles;      ///< turning to the next page of the cache
  Constant decode_sequence_cycles;  ///< prologue and epilogue of a sequence, or of its part
  Constant decode_split_us;         ///< combining a sequence's parts, per part
  Constant cache_hbm;               ///< fraction of HBM's line rate at which pages stream
  Constant operand_hbm;             ///< the same for rotating, quantising, and single queries
};

/// Fractions of line rate.
struct LinkEfficiency {
  Constant hbm;     ///< streaming kernels
  Constant nvlink;  ///< per direction
  Constant nic;     ///< per direction
};

struct LatencyConstants {
  Constant kernel_us;      ///< shortest kernel
  Constant launch_gap_us;  ///< between a kernel's end and the next one's start on the same stream
};

/// Dispatch and combine kernels.
struct CommunicationConstants {
  Constant bytes_per_second_per_sm;  ///< what one SM moves through a send-and-receive kernel
  Constant notify_us;  ///< exchange of token counts before a transfer, nobody being late
};

/// What running at the same time costs, measured kernel by kernel in the H800 trace.
struct ContentionConstants {
  Constant
      computation;  ///< time of a computation kernel beside communication over its time alone, >= 1
  Constant dispatch;  ///< time of a dispatch beside computation over its time alone, >= 1
  Constant combine;
};

struct CalibrationSpec {
  std::string gpu;  ///< name of the GPU it was measured on
  TensorEfficiency tensor;
  AttentionConstants attention;
  LinkEfficiency link;
  LatencyConstants latency;
  CommunicationConstants communication;
  ContentionConstants contention;
};

}  // namespace pipecast
