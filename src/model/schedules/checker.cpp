#include "model/schedules/checker.hpp"

#include <fmt/format.h>

#include <cstdint>

#include "model/schedules/timing.hpp"

namespace pipecast {
namespace {

using Violation = std::optional<std::string>;

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// What has been done to one micro-batch on one rank: any of these parts.
using Parts = std::uint8_t;
constexpr Parts kForwardPart = 1;
constexpr Parts kInputPart = 2;   // by B or Bi
constexpr Parts kWeightPart = 4;  // by B or W

/// What a pass does, and after what.
struct Rule {
  Parts does = 0;
  Parts after = 0;
  const char* after_name = "";
};

/// [Pass]
constexpr Rule kRules[] = {{kForwardPart, 0, ""},
                           {kInputPart | kWeightPart, kForwardPart, "its forward"},
                           {kInputPart, kForwardPart, "its forward"},
                           {kWeightPart, kInputPart, "its Bi"}};

Violation check_shape(const Schedule& schedule) {
  if (schedule.ranks.empty()) return "the schedule has no ranks";
  const std::size_t lanes = schedule.stage_of.size();
  const std::size_t paths = schedule.microbatches.size();
  if (lanes == 0 || (paths != 1 && paths != lanes)) {
    return fmt::format(
        "{} lanes of stages and {} paths of micro-batches; expected one path, or "
        "one for each lane",
        lanes, paths);
  }
  std::vector<std::vector<int>> times_held(paths, std::vector<int>(index(schedule.stages())));
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    const std::vector<int>& stages = schedule.stage_of[lane];
    if (stages.size() != schedule.ranks.size()) {
      return fmt::format("lane {} has stages on {} ranks; there are {}", lane, stages.size(),
                         schedule.ranks.size());
    }
    std::vector<int>& held = times_held[index(schedule.path_of(static_cast<int>(lane)))];
    for (const int stage : stages) {
      if (stage < 0 || stage >= schedule.stages() || ++held[index(stage)] > 1) {
        return fmt::format("lane {} does not place each of {} stages once", lane,
                           schedule.stages());
      }
    }
  }
  return std::nullopt;
}

/// One rank's steps in their order.
class RankChecker {
 public:
  RankChecker(const Schedule& schedule, std::size_t rank, bool with_backward)
      : schedule_(schedule), rank_(rank), with_backward_(with_backward) {
    for (int lane = 0; lane < schedule.lanes(); ++lane) {
      done_.emplace_back(index(schedule.microbatches[index(schedule.path_of(lane))]));
    }
  }

  Violation check() {
    for (const Step& step : schedule_.ranks[rank_]) {
      const bool pair_of_both =
          step.first.pass == Pass::kForward && step.second.pass == Pass::kBackward;
      if (step.overlapped && !pair_of_both) {
        return fmt::format("rank {}: {} is not a forward beside a full backward", rank_,
                           to_text(step));
      }
      if (auto wrong = run(step.first)) return wrong;
      if (!step.overlapped) continue;
      if (auto wrong = run(step.second)) return wrong;
      if (step.first.lane == step.second.lane && step.first.microbatch == step.second.microbatch) {
        return fmt::format("rank {}: {} overlaps a micro-batch with itself", rank_, to_text(step));
      }
    }
    return check_complete();
  }

 private:
  Violation run(const ChunkPass& pass) {
    if (pass.lane < 0 || index(pass.lane) >= done_.size()) {
      return fmt::format("rank {}: {} has no such lane; there are {}", rank_, to_text(Step{pass}),
                         done_.size());
    }
    auto& lane = done_[index(pass.lane)];
    if (pass.microbatch < 0 || index(pass.microbatch) >= lane.size()) {
      return fmt::format("rank {}: {} has no such micro-batch; lane {} has {}", rank_,
                         to_text(Step{pass}), pass.lane, lane.size());
    }
    const Rule& rule = kRules[static_cast<std::size_t>(pass.pass)];
    Parts& done = lane[index(pass.microbatch)];
    if ((done & rule.after) != rule.after) {
      return fmt::format("rank {} runs {} before {}", rank_, to_text(Step{pass}), rule.after_name);
    }
    if ((done & rule.does) != 0) {
      return fmt::format("rank {} does the work of {} twice", rank_, to_text(Step{pass}));
    }
    done = static_cast<Parts>(done | rule.does);
    return std::nullopt;
  }

  Violation check_complete() const {
    const Parts all = with_backward_ ? kForwardPart | kInputPart | kWeightPart : kForwardPart;
    for (std::size_t d = 0; d < done_.size(); ++d) {
      for (std::size_t i = 0; i < done_[d].size(); ++i) {
        const Parts missing = static_cast<Parts>(all & ~done_[d][i]);
        if (missing == 0) continue;
        const char* first = (missing & kForwardPart) != 0 ? "F"
                            : (missing & kInputPart) != 0 ? "B"
                                                          : "W";
        return fmt::format("rank {} never runs {}{}.{}", rank_, first, d, i);
      }
    }
    return std::nullopt;
  }

  const Schedule& schedule_;
  std::size_t rank_;
  bool with_backward_;
  std::vector<std::vector<Parts>> done_;  // [lane][micro-batch]
};

}  // namespace

std::optional<std::string> check_schedule(const Schedule& schedule) {
  if (auto wrong = check_shape(schedule)) return wrong;
  const bool with_backward = has_backward(schedule);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    if (auto wrong = RankChecker(schedule, rank, with_backward).check()) return wrong;
  }
  return find_deadlock(schedule);
}

}  // namespace pipecast
