#include "sim/gpu/chunk.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace pipecast {

ChunkProgram ChunkBuilder::program(const ChunkShape& chunk) {
  ChunkProgram out;
  ChunkChains chains;
  double nic_bytes = 0;
  double nvlink_bytes = 0;
  const std::vector<ChunkPhase> phases = phases_of(chunk, plan_);
  ShardMoves moves(chunk, plan_, collectives_, out.tasks);
  moves.begin(phases);
  for (const ChunkPhase& phase : phases) {
    const bool split = splits_sms(chunk.kind, phase.phase, plan_);
    const int before = chains.before(phase);
    int last = before;
    const int slot = slot_of(chunk, phase.forward, phase.layer);
    const std::vector<Segment>& segments =
        phase.load != nullptr ? segments_.at(phase.kind, phase.phase, split, *phase.load)
                              : segments_.balanced(phase.kind, phase.phase, split);
    for (const Segment& segment : segments) {
      const int index = static_cast<int>(out.tasks.size());
      last = moves.gathered(phase, segment.communication, last);
      // Without a stream of its own an exchange waits for whatever was launched before it.
      if (!plan_.overlap.communication) last = index - 1;
      out.tasks.push_back({.times = segment.times,
                           .slot = slot,
                           .after = last,
                           .communication = segment.communication,
                           .collective = segment.collective,
                           .beside = segment.beside,
                           .phase = phase.phase,
                           .layer = phase.kind,
                           .work = segment.work});
      last = index;
      nic_bytes += segment.nic_bytes;
      nvlink_bytes += segment.nvlink_bytes;
    }
    chains.add(phase, last);
    moves.launched(phase, before, last);
  }
  moves.finish();
  nic_bytes += static_cast<double>(moves.nic_bytes().count());
  nvlink_bytes += static_cast<double>(moves.nvlink_bytes().count());
  const std::vector<TaskSpan> spans = play_alone(out.tasks);
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const Duration took = spans[i].end - spans[i].start;
    out.alone = std::max(out.alone, spans[i].end - Time());
    if (out.tasks[i].collective) {
      out.tasks[i].transfer = took;
      out.communication += took;
    }
    if (out.tasks[i].move != ShardMove::kNone) out.moves += took;
    if (!out.tasks[i].communication) out.compute += took;
  }
  out.critical = critical_work(out.tasks, spans);
  out.nic_bytes = Bytes(std::llround(nic_bytes));
  out.nvlink_bytes = Bytes(std::llround(nvlink_bytes));
  return out;
}

void ChunkBuilder::add_curves(const ChunkShape& chunk, ChunkProgram& program) {
  std::size_t task = 0;
  const auto skip_moves = [&] {
    while (task < program.tasks.size() && program.tasks[task].move != ShardMove::kNone) ++task;
  };
  for (const ChunkPhase& phase : phases_of(chunk, plan_)) {
    const bool split = splits_sms(chunk.kind, phase.phase, plan_);
    for (const auto& curve : segments_.curves(phase.kind, phase.phase, split)) {
      skip_moves();
      if (curve != nullptr) program.curves.push_back(curve);
      program.tasks[task++].curve = curve.get();
    }
  }
  skip_moves();
  PIPECAST_ASSERT(task == program.tasks.size());
}

TaskLoad ChunkBuilder::task_load(double routed_tokens, double received_tokens) {
  const auto balanced = static_cast<double>(kernels().balanced().received_tokens);
  return {static_cast<float>(segments_.rows_share(routed_tokens)),
          static_cast<float>(received_tokens / std::max(1.0, balanced))};
}

ChunkShape ChunkBuilder::single_shape(Pass pass, int stage) const {
  ChunkShape chunk;
  switch (pass) {
    case Pass::kForward:
      chunk.kind = ChunkKind::kForward;
      break;
    case Pass::kBackward:
      chunk.kind = ChunkKind::kBackward;
      break;
    case Pass::kBackwardInput:
      chunk.kind = ChunkKind::kBackwardInput;
      break;
    case Pass::kBackwardWeight:
      chunk.kind = ChunkKind::kBackwardWeight;
      break;
  }
  (pass == Pass::kForward ? chunk.forward : chunk.backward) = layers(stage);
  (pass == Pass::kForward ? chunk.forward_holders : chunk.backward_holders) = holders(stage);
  return chunk;
}

ChunkShape ChunkBuilder::overlapped_shape(int forward_stage, int backward_stage) const {
  return {.kind = ChunkKind::kOverlapped,
          .forward = layers(forward_stage),
          .backward = layers(backward_stage),
          .forward_holders = holders(forward_stage),
          .backward_holders = holders(backward_stage)};
}

}  // namespace pipecast
