#include "sim/gpu/chunk.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast {

ChunkProgram ChunkBuilder::program(const ChunkShape& chunk) {
  ChunkProgram out;
  ChunkChains chains;
  double nic_bytes = 0;
  double nvlink_bytes = 0;
  for (const ChunkPhase& phase : phases_of(chunk, plan_)) {
    const bool split = splits_sms(chunk.kind, phase.phase, plan_);
    int last = chains.before(phase);
    for (Segment& segment : segments_.of(phase.kind, phase.phase, split, phase.load)) {
      const int index = static_cast<int>(out.tasks.size());
      // Without a stream of its own an exchange waits for whatever was launched before it.
      if (!plan_.overlap.communication) last = index - 1;
      out.tasks.push_back({.time = segment.time,
                           .beside_phase = segment.beside_phase,
                           .after = last,
                           .communication = segment.communication,
                           .collective = segment.collective,
                           .beside = segment.beside,
                           .phase = phase.phase,
                           .layer = phase.kind,
                           .work = std::move(segment.work)});
      last = index;
      nic_bytes += segment.nic_bytes;
      nvlink_bytes += segment.nvlink_bytes;
    }
    chains.add(phase, last);
  }
  const std::vector<TaskSpan> spans = play_alone(out.tasks);
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const Duration took = spans[i].end - spans[i].start;
    out.alone = std::max(out.alone, spans[i].end - Time());
    if (out.tasks[i].collective) out.communication += took;
    if (!out.tasks[i].communication) out.compute += took;
  }
  out.critical = critical_work(out.tasks, spans);
  out.nic_bytes = Bytes(std::llround(nic_bytes));
  out.nvlink_bytes = Bytes(std::llround(nvlink_bytes));
  return out;
}

ChunkProgram ChunkBuilder::single(Pass pass, int stage) {
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
  return program(chunk);
}

ChunkProgram ChunkBuilder::overlapped(int forward_stage, int backward_stage) {
  return program({.kind = ChunkKind::kOverlapped,
                  .forward = layers(forward_stage),
                  .backward = layers(backward_stage)});
}

}  // namespace pipecast
