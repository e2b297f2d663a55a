/// What one GPU does for one micro-batch on one stage, as tasks on its streams: the unit that a
/// pipeline schedule orders. Built once for each kind of chunk, run many times.
#pragma once

#include <map>
#include <string_view>
#include <vector>

#include "model/collectives/all_to_all.hpp"
#include "model/operations/operation.hpp"
#include "model/ops/kernel_memo.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Time that one kind of work takes on a chunk's critical path.
struct WorkShare {
  std::string_view operation;  ///< an operation's name
  std::string_view resource;   ///< what limits it: tensor, hbm, latency, nic, nvlink, issue
  Duration time;
};

/// A stretch of kernels on one stream between points of synchronisation. A stream runs its tasks in
/// order.
struct Task {
  Duration
      duration;    ///< launch gaps included; of a collective: its transfer, once all have arrived
  int after = -1;  ///< a task that must have ended, besides the stream's previous one; -1: none
  Stream stream{};
  bool collective = false;  ///< starts when the whole expert-parallel group has arrived
  Phase phase{};
  LayerKind layer{};
  std::vector<WorkShare> work{};
};

struct ChunkProgram {
  std::vector<Task> tasks;          ///< every task after those it waits for
  Duration alone;                   ///< from start to end if no peer is ever late
  std::vector<WorkShare> critical;  ///< what `alone` consists of, by operation and resource
  Duration communication;           ///< transfers of all collectives
  Duration compute;                 ///< busy time of the compute stream
  Bytes nic_bytes;                  ///< sent by one GPU in all collectives
  Bytes nvlink_bytes{};
};

/// Builds the chunks of one plan. The way of overlapping: the forward's layers and the backward's
/// layers are paired in the order in which each passes them (first with first); what is left of the
/// longer one runs alone. Within a pair the compute stream runs attn(F), mlp(B), mlp(W), mlp(F),
/// attn(B), attn(W) while the communication stream runs combine(B), dispatch(F), dispatch(B),
/// combine(F), each when its input is ready. A kernel that runs in an overlapped chunk has the
/// GPU's SMs less the communication SMs and is slowed by the measured contention; in any other
/// chunk it has the whole GPU. Not modelled here: contention that changes while a kernel runs, and
/// reuse of SMs that communication leaves idle.
class ChunkBuilder {
 public:
  /// @param plan  the plan of the simulated phase; its layout decides what a stage consists of
  ChunkBuilder(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing);

  /// @param stage  whose layers the pass goes through
  [[nodiscard]] ChunkProgram single(Pass pass, int stage) const;
  [[nodiscard]] ChunkProgram overlapped(int forward_stage, int backward_stage) const;

  [[nodiscard]] const LayerOperations& layer(LayerKind kind) const { return layers_.at(kind); }

 private:
  struct Piece;
  class Assembly;
  std::vector<Piece> pieces_of(LayerKind kind, Phase phase, bool overlapped) const;
  Piece compute_piece(const std::vector<Operation>& operations, std::size_t first, std::size_t last,
                      bool overlapped) const;
  Piece transfer_piece(const Operation& operation, bool overlapped) const;

  const Scenario& scenario_;
  const PlanSpec& plan_;
  RoutingStatistics routing_;
  std::map<LayerKind, LayerOperations> layers_;
  /// Layers repeat within chunks and between them. Changes no result: a builder serves one thread.
  mutable KernelMemo kernels_;
};

}  // namespace pipecast
