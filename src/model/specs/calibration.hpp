/// The free constants of the kernel and link models. Each is physical, fitted on kernel-level
/// measurements, and carries its plausible range; configs/calibration/ holds source and residual.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pipecast {

/// What a number rests on, best first.
enum class Evidence : std::uint8_t {
  kCalibrated,  ///< kernels that `pipecast calibrate` timed on the device that the file names
  kPublic,      ///< published or traced times of kernels; the source says which
  kModelled,    ///< no time of a kernel: a data sheet, an argument, another kind of kernel
};

/// The word in files and results.
constexpr std::string_view name_of(Evidence evidence) {
  switch (evidence) {
    case Evidence::kCalibrated:
      return "calibrated";
    case Evidence::kPublic:
      return "public";
    case Evidence::kModelled:
      return "modelled";
  }
  return "";
}

struct Constant {
  double value = 0;
  double low = 0;
  double high = 0;
  std::string source;
  Evidence kind = Evidence::kPublic;
  /// Of the times that decide it: the middle half of repetitions over their median, as a share.
  /// 0: unknown.
  double spread = 0;
};

/// Where and when `pipecast calibrate` measured; all empty for constants of public tables.
struct DeviceStamp {
  std::string name{};    ///< as the driver has it: "NVIDIA H100 80GB HBM3"
  std::string driver{};  ///< its version
  std::string date{};    ///< 2026-11-22
};

/// Times of one kind of kernel that the constants were fitted on.
struct KernelEvidence {
  std::string operation{};  ///< a name of `pipecast list operations`
  Evidence kind = Evidence::kPublic;
  int rows = 0;
  std::string source{};
};

struct ClockConstants {
  Constant loaded_ghz;   ///< SM clock with all tensor cores busy for long
  Constant settling_us;  ///< time constant with which the clock falls under load
  /// SM clock that the chip holds through a training step, kernel after kernel without a pause.
  Constant training_ghz;
};

/// Matrix products: cycles of the parts of a tile that arithmetic does not give.
struct ProductConstants {
  Constant drain_cycles;           ///< FP8: wait for the tensor cores before each promotion
  Constant gradient_drain_cycles;  ///< the same in weight gradients, whose scales differ by column
  Constant uneven_columns;  ///< FP8: extra share of a tile's loop at 128 columns, where the columns
                            ///< are an odd multiple of 16; grows with their square
  Constant epilogue_cycles_fp8;   ///< per 128 results
  Constant epilogue_cycles_bf16;  ///< per 128 results
  Constant issue_bf16;            ///< cycles over those that the tensor cores need, >= 1
  Constant partial_row_cycles;    ///< per missing row of the last 64 and 128 of K
  Constant hbm;                   ///< fraction of the line rate that operands stream at
  Constant launch_us;             ///< before the first and after the last tile
  /// Launches of a single wave that keep more than 80 % of the SMs busy were measured far slower
  /// than several waves of the same tile (H100 table): a factor at 20,480 results per tile, and
  /// cycles per 128 of K at 24,576 and 32,768. Mechanism unknown; 1 and 0 switch it off.
  Constant one_wave_factor;
  Constant one_wave_cycles;
  Constant tallest_tile;   ///< rows of the tallest FP8 tile that the measured version offers
  Constant widest_tile;    ///< columns of the widest one
  Constant training_tile;  ///< rows and columns of the one FP8 tile that training's kernels have;
                           ///< 0: they choose like the measured version
  /// The cast of A that the FP8 table's times include, where they do: its launch, and the rate at
  /// which its thread blocks start. Block rate 0: the table's times are products alone.
  Constant cast_launch_us;
  Constant cast_blocks_per_us;
};

/// Attention kernels, src/model/ops/attention*.cpp. `exposed` ones count in the time that softmax
/// would take alone on the CUDA cores: 0 if it hides behind the tensor cores, more than 1 where
/// other work (conversions, layouts of registers) waits as well.
struct AttentionConstants {
  Constant launch_us;               ///< fixed time of each kernel in a chain of dependent ones
  Constant forward_exposed;         ///< BF16 operands
  Constant forward_exposed_fp8;     ///< FP8 operands
  Constant training_exposed;        ///< BF16 operands, the forward kernel of training
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
  Constant kernel_us;      ///< an empty kernel
  Constant launch_gap_us;  ///< between a kernel's end and the next one's start on the same stream
};

/// Kernels that move memory: what holds them back where it is not the HBM. Cycles are SM cycles at
/// the GPU's tensor clock.
struct MemoryConstants {
  Constant conversion_bytes_per_cycle;  ///< what one SM moves in casts of rows to and from FP8
  Constant dispatch_bytes_per_cycle;    ///< the same to FP8 with scales that are powers of two
  Constant sm_bytes_per_cycle;          ///< what one SM moves with all its loads in flight
  Constant tile_cycles;     ///< of a thread block, two per SM, for 128 x 128 scaled and transposed
  Constant packing_cycles;  ///< per element to E5M6
  Constant unpacking_cycles;  ///< per element from E5M6
  Constant norm_cycles;       ///< of a norm, per element read or written, on a full SM
  /// Share of a norm's time on a full SM that its thread blocks take however few they are there.
  Constant norm_alone;
  Constant rotation_cycles;    ///< per element rotated
  Constant repetition_cycles;  ///< per element repeated from a smaller tensor
  Constant selection_cycles;   ///< per row and pass
  Constant scan_cycles;        ///< of one thread block, per index and pass
  Constant scale_cycles;       ///< of one thread block, per scale transposed
};

/// Dispatch and combine kernels.
struct CommunicationConstants {
  Constant bytes_per_second_per_sm;  ///< copies through one SM, sending and receiving together
  Constant notify_us;  ///< exchange of token counts before a transfer, nobody being late
  /// Further wait of a GPU in such an exchange until the last of its peers has arrived, in
  /// training.
  Constant peers_late_us;
  Constant dispatch_us;    ///< of a dispatch of hardly a token, beyond the links
  Constant combine_us;     ///< of such a combine
  Constant token_us;       ///< SM time of a dispatch for a token beside its copies
  Constant copy_us;        ///< SM time of a dispatch for a copy beside its bytes
  Constant sum_copy;       ///< SM time of a combine's sum for a token, in copies
  Constant node_copy;      ///< SM time of a copy to another node, in copies to a GPU
  Constant first_tokens;   ///< tokens' SM time that the first one takes through a thread block
  Constant chunk_tokens;   ///< tokens an SM by which the receiving half runs behind the sending one
  Constant layout_cycles;  ///< SM cycles of ep_layout for one of a token's experts
};

/// Time of a transfer beside computation over its time alone, >= 1, measured in the H800 trace.
struct ContentionConstants {
  Constant dispatch;         ///< the forward's, which learns who receives what
  Constant cached_dispatch;  ///< the backward's, which repeats a known exchange
  Constant combine;
};

struct CalibrationSpec {
  std::string gpu;  ///< name of the GPU it was measured on
  /// Whether a scenario may use the constants on a GPU of another name.
  bool allow_device_mismatch = false;
  DeviceStamp device{};
  std::vector<KernelEvidence> kernels{};  ///< sorted by operation; others were never timed
  ClockConstants clock;
  ProductConstants product;
  AttentionConstants attention;
  LinkEfficiency link;
  LatencyConstants latency;
  MemoryConstants memory;
  CommunicationConstants communication;
  ContentionConstants contention;
};

}  // namespace pipecast
