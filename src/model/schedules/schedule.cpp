#include "model/schedules/schedule.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace pipecast {

namespace {

std::string to_text(const ChunkPass& p) {
  static constexpr std::string_view kLetters[] = {"F", "B", "Bi", "W"};
  return fmt::format("{}{}.{}", kLetters[static_cast<int>(p.pass)], p.lane, p.microbatch);
}

}  // namespace

std::string to_text(const Step& step) {
  return step.overlapped ? to_text(step.first) + "&" + to_text(step.second) : to_text(step.first);
}

StageMap stages_in_line(int ranks) { return stages_looped(ranks, 1); }

StageMap stages_looped(int ranks, int lanes) {
  StageMap out;
  for (int lane = 0; lane < lanes; ++lane) {
    auto& stages = out.emplace_back();
    for (int rank = 0; rank < ranks; ++rank) stages.push_back(lane * ranks + rank);
  }
  return out;
}

StageMap stages_in_v(int ranks) {
  StageMap out(2);
  for (int rank = 0; rank < ranks; ++rank) {
    out[0].push_back(rank);
    out[1].push_back(2 * ranks - 1 - rank);
  }
  return out;
}

StageMap stages_both_ways(int ranks) {
  StageMap out(2);
  for (int rank = 0; rank < ranks; ++rank) {
    out[0].push_back(rank);
    out[1].push_back(ranks - 1 - rank);
  }
  return out;
}

std::vector<std::vector<StageHolder>> holders_of_stages(const Schedule& schedule) {
  const auto stages = static_cast<std::size_t>(schedule.stages());
  std::vector<std::vector<StageHolder>> out(schedule.microbatches.size(),
                                            std::vector<StageHolder>(stages));
  for (int lane = 0; lane < schedule.lanes(); ++lane) {
    const std::vector<int>& held = schedule.stage_of[static_cast<std::size_t>(lane)];
    auto& holders = out.at(static_cast<std::size_t>(schedule.path_of(lane)));
    for (std::size_t rank = 0; rank < held.size(); ++rank) {
      holders.at(static_cast<std::size_t>(held[rank])) = {.rank = static_cast<int>(rank),
                                                          .lane = lane};
    }
  }
  return out;
}

bool has_backward(const Schedule& schedule) {
  for (const std::vector<Step>& steps : schedule.ranks) {
    for (const Step& step : steps) {
      if (step.overlapped || step.first.pass != Pass::kForward) return true;
    }
  }
  return false;
}

int ScheduleKind::stages_per_rank(const PipelineShape& shape) const {
  if (shape.virtual_stages == 0) return virtual_stages;
  require<ImpossiblePlan>(takes_virtual_stages || shape.virtual_stages == virtual_stages,
                          "{} virtual stages on a rank; this kind of schedule has {}",
                          shape.virtual_stages, virtual_stages);
  return shape.virtual_stages;
}

}  // namespace pipecast
