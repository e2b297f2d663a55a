/// What one GPU does for one micro-batch on one stage, as tasks on its streams: the unit that a
/// pipeline schedule orders. Built once for each kind of chunk, run many times.
#pragma once

#include <memory>
#include <vector>

#include "model/schedules/schedule.hpp"
#include "sim/gpu/segments.hpp"
#include "sim/gpu/shard_moves.hpp"

namespace pipecast {

struct ChunkProgram {
  std::vector<Task> tasks;          ///< every task after those it waits for
  Duration alone;                   ///< from start to end if no peer is ever late
  std::vector<WorkShare> critical;  ///< what `alone` consists of, by operation and resource
  Duration communication;           ///< transfers of all collectives
  Duration moves{};                 ///< of weights and gradients between shards
  Duration compute;                 ///< busy time of the compute stream in `alone`
  Bytes nic_bytes;                  ///< sent by one GPU in all collectives and moves
  Bytes nvlink_bytes{};
  std::vector<std::shared_ptr<const LoadCurve>> curves{};  ///< that tasks point to
};

/// Builds the chunks of one plan for the cluster: kernel-by-kernel chunks (chunk_kernels.hpp), each
/// phase summed up to the segments between its points of synchronisation (segments.hpp). Not for
/// use by several threads at once.
class ChunkBuilder {
 public:
  /// @param scenario, plan  must outlive this and not change; the plan's layout decides what a
  /// stage
  ///                        consists of
  /// @param holders  by stage: pipeline ranks that hold it; none: one each
  ChunkBuilder(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing,
               std::vector<int> holders = {})
      : plan_(plan),
        segments_(scenario, plan, routing),
        collectives_(scenario, plan),
        holders_(std::move(holders)) {}

  /// At the chunk's loads.
  ChunkProgram program(const ChunkShape& chunk);

  /// Lets the program's tasks follow whatever load their GPU gets.
  /// @param chunk  what the program was made from, balanced
  void add_curves(const ChunkShape& chunk, ChunkProgram& program);

  /// What curves count for a GPU's load in one layer.
  [[nodiscard]] TaskLoad task_load(double routed_tokens, double received_tokens);

  /// @param stage  whose layers the pass goes through, balanced
  ChunkProgram single(Pass pass, int stage) { return program(single_shape(pass, stage)); }
  ChunkProgram overlapped(int forward_stage, int backward_stage) {
    return program(overlapped_shape(forward_stage, backward_stage));
  }
  [[nodiscard]] ChunkShape single_shape(Pass pass, int stage) const;
  [[nodiscard]] ChunkShape overlapped_shape(int forward_stage, int backward_stage) const;

  /// For the same chunks kernel by kernel.
  [[nodiscard]] ChunkKernels& kernels() { return segments_.kernels(); }

 private:
  [[nodiscard]] const std::vector<LayerKind>& layers(int stage) const {
    return plan_.pipeline_layout[static_cast<std::size_t>(stage)];
  }

  [[nodiscard]] int holders(int stage) const {
    return holders_.empty() ? 1 : holders_[static_cast<std::size_t>(stage)];
  }

  const PlanSpec& plan_;
  Segments segments_;
  LayerCollectives collectives_;
  std::vector<int> holders_;
};

}  // namespace pipecast
