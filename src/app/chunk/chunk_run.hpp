/// One chunk on one GPU, played kernel by kernel.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "app/tables/launch_table.hpp"
#include "model/specs/scenario.hpp"
#include "sim/gpu/chunk_kernels.hpp"

namespace pipecast {

/// What a user asks for.
struct ChunkRequest {
  ChunkKind kind = ChunkKind::kOverlapped;
  /// Layers with experts (dense ones of a model without experts); none: as many as the stage of the
  /// plan has that has most.
  std::optional<int> layers{};
  /// The layers of a stage of the plan instead. Of a pair: the forward's stage; the backward's is
  /// the mirrored one, as bidirectional schedules pair them.
  std::optional<int> stage{};
};

/// @throws Error with the legal names
ChunkKind chunk_kind(std::string_view name);

/// Which passes a chunk has.
constexpr bool has_forward(ChunkKind kind) {
  return kind == ChunkKind::kForward || kind == ChunkKind::kOverlapped;
}
constexpr bool has_backward(ChunkKind kind) { return kind != ChunkKind::kForward; }

/// @throws Error with the legal values
ChunkShape chunk_shape(const Scenario& scenario, const ChunkRequest& request);

/// A launch with what it was and when it ran.
struct PlayedKernel {
  Launch launch;
  Operation operation;
  int grid = 0;  ///< SMs that it was launched for, where that is its way
  KernelSpan span;
};

/// What the kernels of a stretch of time had of the GPU while none started or ended.
struct GpuUse {
  Duration start;
  Duration end;
  int sms = 0;           ///< given to kernels
  double tensor = 0;     ///< useful FLOPs over the dense peak of their precision, in seconds
  double hbm_bytes = 0;  ///< moved in this stretch; so below
  double nvlink_bytes = 0;
  double nic_bytes = 0;
};

struct ChunkRun {
  ChunkShape shape;
  Duration peers_late;                ///< in every notification
  std::vector<PlayedKernel> kernels;  ///< in launch order
  std::vector<GpuUse> use;            ///< in order of time, without gaps
  Duration time;                      ///< from the first start to the last end
};

/// Plays a chunk with balanced routing.
/// @param peers_late  wait in every notification for the last peer
/// @throws Error for kernels that the GPU cannot run, or a chunk without any
ChunkRun run_chunk(const Scenario& scenario, const ChunkShape& shape, Duration peers_late);

/// The launches as a table, in order of their start.
std::vector<TraceRow> rows_of(const std::vector<PlayedKernel>& kernels);

}  // namespace pipecast
