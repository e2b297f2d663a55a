/// When a chunk gathers the weights of its layers and reduces their gradients, where the plan
/// shards them.
#pragma once

#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "sim/gpu/chunk_kernels.hpp"
#include "sim/gpu/chunk_play.hpp"
#include "sim/gpu/parameter_collective.hpp"

namespace pipecast {

/// What one layer's weights and gradients cost on their way, each worked out once.
class LayerCollectives {
 public:
  /// @param scenario, plan  must outlive this and not change
  LayerCollectives(const Scenario& scenario, const PlanSpec& plan)
      : scenario_(scenario), plan_(plan) {}

  const ParameterCollective& at(ShardMove move, LayerKind kind, int holders);

 private:
  const Scenario& scenario_;
  const PlanSpec& plan_;
  std::map<std::tuple<ShardMove, LayerKind, int>, ParameterCollective> known_;
};

/// Puts the moves of one chunk between its other tasks, on the communication stream.
///
/// ZeRO-3: a layer's weights are gathered before its first phase in a pass, one layer ahead: with
/// the first phase of the layer before, but not before that one may begin, so that weights of two
/// layers of a pass are there at most. ZeRO-2 and 3: a layer's gradients are reduced after the last
/// phase that computes any; launched after the next layer's first phase, so that they do not hold
/// up the exchange that the weights' gradients run beside. Source: Rajbhandari et al. 2020, arXiv
/// 1910.02054, sections 5.2, 5.3 and 7.
///
/// A move holds the communication SMs as a kernel that waits does; nothing of it is slower on a
/// slower GPU.
/// Not modelled: waiting for the other replicas, which are taken to be at the same place; HBM
/// traffic of a move; pipeline messages on the same NIC; moves that go on beside the next chunk;
/// SMs of moves in plans without expert parallelism; casts of gathered weights to the format of
/// products (shards hold that already); one gather for a head and an MTP module's use of it.
class ShardMoves {
 public:
  /// @param tasks  grow by the moves; all but `tasks` and what it refers to outlive this
  ShardMoves(const ChunkShape& chunk, const PlanSpec& plan, LayerCollectives& collectives,
             std::vector<Task>& tasks);

  /// Before anything else: gathers the first layer of each pass.
  void begin(const std::vector<ChunkPhase>& phases);

  /// What the next task of a phase waits for, its weights being there.
  /// @param last  what it waits for besides
  int gathered(const ChunkPhase& phase, bool communication, int last);

  /// After the tasks of a phase.
  /// @param before, last  what the phase waited for, and what waits for it
  void launched(const ChunkPhase& phase, int before, int last);

  /// After everything else.
  void finish() { reduce(); }

  [[nodiscard]] Bytes nic_bytes() const { return nic_bytes_; }
  [[nodiscard]] Bytes nvlink_bytes() const { return nvlink_bytes_; }

 private:
  /// A pass of the chunk.
  struct Way {
    std::vector<LayerKind> layers;  // in the order in which it goes through them
    int holders = 1;
    bool gathers = false;
    std::size_t begun = 0;        // layers whose first phase has been launched
    std::vector<int> gathers_of;  // by layer, until its first task has been launched; -1: none
  };
  struct Gradients {
    LayerKind kind{};
    int slot = -1;
    int after = -1;
  };

  void gather(bool forward, int after);
  void reduce();
  int add(ShardMove move, LayerKind kind, int slot, int holders, Phase phase, int after);

  const ChunkShape& chunk_;
  const PlanSpec& plan_;
  LayerCollectives& collectives_;
  std::vector<Task>& tasks_;
  std::array<Way, 2> ways_;  // backward, forward
  bool reduces_ = false;
  int weight_phases_ = 0;             // of the present layer
  int weights_done_ = -1;             // last task of them
  std::vector<Gradients> gradients_;  // to be reduced
  Bytes nic_bytes_;
  Bytes nvlink_bytes_;
};

}  // namespace pipecast
