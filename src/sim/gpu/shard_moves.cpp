#include "sim/gpu/shard_moves.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"

namespace pipecast {

namespace {

bool is_exchange(Phase phase) {
  return phase == Phase::kDispatchForward || phase == Phase::kCombineForward ||
         phase == Phase::kDispatchBackward || phase == Phase::kCombineBackward;
}

}  // namespace

const ParameterCollective& LayerCollectives::at(ShardMove move, LayerKind kind, int holders) {
  const auto [it, fresh] = known_.try_emplace({move, kind, holders});
  if (fresh) {
    const Precision precision = move == ShardMove::kAllGather ? plan_.precision.parameter_gather
                                                              : plan_.precision.gradients;
    it->second = parameter_collective(
        scenario_, plan_, Placement(scenario_.cluster, scenario_.data_parallel()),
        parameters_of_stage(scenario_.model, {kind}, plan_.ep), holders, precision);
  }
  return it->second;
}

ShardMoves::ShardMoves(const ChunkShape& chunk, const PlanSpec& plan, LayerCollectives& collectives,
                       std::vector<Task>& tasks)
    : chunk_(chunk), plan_(plan), collectives_(collectives), tasks_(tasks) {
  const bool pair = chunk.kind == ChunkKind::kOverlapped;
  const bool forward = pair || chunk.kind == ChunkKind::kForward;
  const bool backward = chunk.kind != ChunkKind::kForward;
  // Gradients of weights alone need no weights.
  const bool reads_weights = backward && chunk.kind != ChunkKind::kBackwardWeight;
  const bool gathers = plan.zero_stage >= 3;
  if (backward) {
    ways_[false] = {.layers = {chunk.backward.rbegin(), chunk.backward.rend()},
                    .holders = chunk.backward_holders,
                    .gathers = gathers && reads_weights,
                    .gathers_of = std::vector<int>(chunk.backward.size(), -1)};
  }
  if (forward) {
    ways_[true] = {.layers = chunk.forward,
                   .holders = chunk.forward_holders,
                   .gathers = gathers,
                   .gathers_of = std::vector<int>(chunk.forward.size(), -1)};
  }
  reduces_ = plan.zero_stage >= 2 && backward && chunk.kind != ChunkKind::kBackwardInput;
}

void ShardMoves::begin(const std::vector<ChunkPhase>& phases) {
  // What computes first is served first.
  const auto computing = std::find_if(phases.begin(), phases.end(), [](const ChunkPhase& phase) {
    return !is_exchange(phase.phase);
  });
  if (computing == phases.end()) return;
  gather(computing->forward, -1);
  gather(!computing->forward, -1);
}

int ShardMoves::gathered(const ChunkPhase& phase, bool communication, int last) {
  Way& way = ways_[phase.forward];
  if (!way.gathers) return last;
  int& move = way.gathers_of[phase.layer];
  const int gather = std::exchange(move, -1);
  // The communication stream's order is enough for its own tasks, and for computation that waits
  // for one of them that was launched after the gather.
  if (gather < 0 || communication) return last;
  const bool after_exchange = last >= 0 && tasks_[static_cast<std::size_t>(last)].communication;
  if (after_exchange) {
    PIPECAST_ASSERT(last > gather);
    return last;
  }
  return gather;  // what it waited for is on its own stream, before it
}

void ShardMoves::launched(const ChunkPhase& phase, int before, int last) {
  Way& way = ways_[phase.forward];
  if (phase.layer == way.begun) {
    ++way.begun;
    gather(phase.forward, before);
    const bool over = ways_[false].begun == ways_[false].layers.size();
    if (!phase.forward || over) reduce();
  }
  if (!reduces_ || !phase.weight) return;
  weights_done_ = std::max(weights_done_, last);
  constexpr int kWeightPhases = 2;  // of a layer: the attention's and the MLP's
  if (++weight_phases_ % kWeightPhases == 0) {
    gradients_.push_back({phase.kind, slot_of(chunk_, false, phase.layer), weights_done_});
  }
}

/// Of the layer after those that have been begun.
void ShardMoves::gather(bool forward, int after) {
  Way& way = ways_[forward];
  if (!way.gathers || way.begun == way.layers.size()) return;
  // A lookup has no input gradient, and the table's own needs no weights.
  if (!forward && way.layers[way.begun] == LayerKind::kEmbedding) return;
  way.gathers_of[way.begun] =
      add(ShardMove::kAllGather, way.layers[way.begun], slot_of(chunk_, forward, way.begun),
          way.holders, forward ? Phase::kAttentionForward : Phase::kAttentionBackward, after);
}

void ShardMoves::reduce() {
  for (const Gradients& gradients : gradients_) {
    add(ShardMove::kReduceScatter, gradients.kind, gradients.slot, ways_[false].holders,
        Phase::kAttentionWeight, gradients.after);
  }
  gradients_.clear();
}

/// @return the task; -1: there is nothing to move
int ShardMoves::add(ShardMove move, LayerKind kind, int slot, int holders, Phase phase, int after) {
  const ParameterCollective& collective = collectives_.at(move, kind, holders);
  if (collective.time == Duration()) return -1;
  const int index = static_cast<int>(tasks_.size());
  Task task{.slot = slot,
            .after = plan_.overlap.communication ? after : index - 1,
            .communication = true,
            .beside = Beside::kWaiting,
            .move = move,
            .phase = phase,
            .layer = kind,
            .work = {{name_of(move), collective.resource, collective.time}}};
  task.times.time.fill(collective.time);
  task.times.beside_phase.fill(collective.time);
  tasks_.push_back(std::move(task));
  nic_bytes_ += collective.nic;
  nvlink_bytes_ += collective.nvlink;
  return index;
}

}  // namespace pipecast
