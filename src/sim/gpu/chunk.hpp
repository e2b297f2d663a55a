/// What one GPU does for one micro-batch on one stage, as tasks on its streams: the unit that a
/// pipeline schedule orders. Built once for each kind of chunk, run many times.
#pragma once

#include <vector>

#include "model/schedules/schedule.hpp"
#include "sim/gpu/segments.hpp"

namespace pipecast {

struct ChunkProgram {
  std::vector<Task> tasks;          ///< every task after those it waits for
  Duration alone;                   ///< from start to end if no peer is ever late
  std::vector<WorkShare> critical;  ///< what `alone` consists of, by operation and resource
  Duration communication;           ///< transfers of all collectives
  Duration compute;                 ///< busy time of the compute stream in `alone`
  Bytes nic_bytes;                  ///< sent by one GPU in all collectives
  Bytes nvlink_bytes{};
};

/// Builds the chunks of one plan for the cluster: kernel-by-kernel chunks (chunk_kernels.hpp), each
/// phase summed up to the segments between its points of synchronisation (segments.hpp). Not for
/// use by several threads at once.
class ChunkBuilder {
 public:
  /// @param scenario, plan  must outlive this and not change; the plan's layout decides what a
  /// stage
  ///                        consists of
  ChunkBuilder(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing)
      : plan_(plan), segments_(scenario, plan, routing) {}

  ChunkProgram program(const ChunkShape& chunk);

  /// @param stage  whose layers the pass goes through, balanced
  ChunkProgram single(Pass pass, int stage);
  ChunkProgram overlapped(int forward_stage, int backward_stage);

  /// For the same chunks kernel by kernel.
  [[nodiscard]] ChunkKernels& kernels() { return segments_.kernels(); }

 private:
  [[nodiscard]] const std::vector<LayerKind>& layers(int stage) const {
    return plan_.pipeline_layout[static_cast<std::size_t>(stage)];
  }

  const PlanSpec& plan_;
  Segments segments_;
};

}  // namespace pipecast
