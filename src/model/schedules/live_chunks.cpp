#include "model/schedules/live_chunks.hpp"

#include <algorithm>

namespace pipecast {

void LiveChunks::start(const Step& step) {
  if (step.first.pass != Pass::kForward) return;
  ++lanes_[static_cast<std::size_t>(step.first.lane)].live;
  ++live_;
}

void LiveChunks::finish(const Step& step) {
  finish(step.first);
  if (step.overlapped) finish(step.second);
}

void LiveChunks::finish(const ChunkPass& pass) {
  LaneChunks& lane = lanes_[static_cast<std::size_t>(pass.lane)];
  const bool last_use =
      forward_only_ || pass.pass == Pass::kBackward || pass.pass == Pass::kBackwardInput;
  if (last_use) {
    --lane.live;
    --live_;
  }
  if (pass.pass == Pass::kBackwardInput) ++lane.deferred_weights;
  if (pass.pass == Pass::kBackwardWeight) --lane.deferred_weights;
}

std::vector<int> peak_live_activations(const Schedule& schedule) {
  const bool forward_only = !has_backward(schedule);
  std::vector<int> out;
  for (const std::vector<Step>& steps : schedule.ranks) {
    LiveChunks chunks(schedule.lanes(), forward_only);
    int peak = 0;
    for (const Step& step : steps) {
      chunks.start(step);
      peak = std::max(peak, chunks.live());
      chunks.finish(step);
    }
    out.push_back(peak);
  }
  return out;
}

std::vector<Bytes> peak_live_bytes(const Schedule& schedule,
                                   const std::vector<StageBytes>& stages) {
  const bool forward_only = !has_backward(schedule);
  std::vector<Bytes> out;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    LiveChunks chunks(schedule.lanes(), forward_only);
    Bytes& peak = out.emplace_back();
    for (const Step& step : schedule.ranks[rank]) {
      chunks.start(step);
      Bytes now;
      for (std::size_t lane = 0; lane < schedule.stage_of.size(); ++lane) {
        const auto stage = static_cast<std::size_t>(schedule.stage_of[lane][rank]);
        const StageBytes& bytes = stages.size() == 1 ? stages.front() : stages.at(stage);
        now += chunks.lanes()[lane].live * bytes.activations +
               chunks.lanes()[lane].deferred_weights * bytes.weight_operands;
      }
      peak = std::max(peak, now);
      chunks.finish(step);
    }
  }
  return out;
}

}  // namespace pipecast
