#include "model/schedules/checker.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "model/schedules/timing.hpp"

namespace pipecast {
namespace {

using Violation = std::optional<std::string>;

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// What has been done to one micro-batch on one rank.
struct Progress {
  bool forward = false;
  bool backward = false;  ///< B or Bi
  bool weight = false;    ///< B or W
};

Violation check_shape(const Schedule& schedule) {
  if (schedule.ranks.empty()) return "the schedule has no ranks";
  if (schedule.stage_of.empty() || schedule.stage_of.size() != schedule.microbatches.size()) {
    return fmt::format("{} directions have stages and {} have micro-batches",
                       schedule.stage_of.size(), schedule.microbatches.size());
  }
  for (std::size_t d = 0; d < schedule.stage_of.size(); ++d) {
    std::vector<int> stages = schedule.stage_of[d];
    std::sort(stages.begin(), stages.end());
    bool each_once = stages.size() == schedule.ranks.size();
    for (std::size_t s = 0; each_once && s < stages.size(); ++s) each_once = index(stages[s]) == s;
    if (!each_once) {
      return fmt::format("direction {} does not place each of {} stages once", d,
                         schedule.ranks.size());
    }
  }
  return std::nullopt;
}

/// One rank's steps in their order.
class RankChecker {
 public:
  RankChecker(const Schedule& schedule, std::size_t rank) : schedule_(schedule), rank_(rank) {
    for (const int microbatches : schedule.microbatches) done_.emplace_back(index(microbatches));
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
      if (step.first.direction == step.second.direction &&
          step.first.microbatch == step.second.microbatch) {
        return fmt::format("rank {}: {} overlaps a micro-batch with itself", rank_, to_text(step));
      }
    }
    return check_complete();
  }

 private:
  Violation run(const ChunkPass& pass) {
    if (pass.direction < 0 || index(pass.direction) >= done_.size()) {
      return fmt::format("rank {}: {} has no such direction; there are {}", rank_,
                         to_text(Step{pass}), done_.size());
    }
    auto& lane = done_[index(pass.direction)];
    if (pass.microbatch < 0 || index(pass.microbatch) >= lane.size()) {
      return fmt::format("rank {}: {} has no such micro-batch; direction {} has {}", rank_,
                         to_text(Step{pass}), pass.direction, lane.size());
    }
    Progress& done = lane[index(pass.microbatch)];
    switch (pass.pass) {
      case Pass::kForward:
        return mark(pass, true, "", {&done.forward});
      case Pass::kBackward:
        return mark(pass, done.forward, "its forward", {&done.backward, &done.weight});
      case Pass::kBackwardInput:
        return mark(pass, done.forward, "its forward", {&done.backward});
      case Pass::kBackwardWeight:
        return mark(pass, done.backward, "its Bi", {&done.weight});
    }
    return std::nullopt;
  }

  Violation mark(const ChunkPass& pass, bool allowed, const char* needed,
                 std::initializer_list<bool*> parts) const {
    if (!allowed) {
      return fmt::format("rank {} runs {} before {}", rank_, to_text(Step{pass}), needed);
    }
    for (bool* part : parts) {
      if (*part) {
        return fmt::format("rank {} does the work of {} twice", rank_, to_text(Step{pass}));
      }
      *part = true;
    }
    return std::nullopt;
  }

  Violation check_complete() const {
    for (std::size_t d = 0; d < done_.size(); ++d) {
      for (std::size_t i = 0; i < done_[d].size(); ++i) {
        const Progress& done = done_[d][i];
        const char* missing = !done.forward    ? "F"
                              : !done.backward ? "B"
                              : !done.weight   ? "W"
                                               : nullptr;
        if (missing != nullptr) {
          return fmt::format("rank {} never runs {}{}.{}", rank_, missing, d, i);
        }
      }
    }
    return std::nullopt;
  }

  const Schedule& schedule_;
  std::size_t rank_;
  std::vector<std::vector<Progress>> done_;  ///< [direction][micro-batch]
};

}  // namespace

std::optional<std::string> check_schedule(const Schedule& schedule) {
  if (auto wrong = check_shape(schedule)) return wrong;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    if (auto wrong = RankChecker(schedule, rank).check()) return wrong;
  }
  return find_deadlock(schedule);
}

}  // namespace pipecast
