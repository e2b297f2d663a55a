#include "model/schedules/timing.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/error.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// Plays a schedule: which passes have ended, and when.
class Player {
 public:
  Player(const Schedule& schedule, const ScheduleCosts& costs)
      : schedule_(schedule), costs_(costs), clock_(schedule.ranks.size()) {
    for (std::size_t d = 0; d < schedule.stage_of.size(); ++d) {
      const std::size_t stages = schedule.stage_of[d].size();
      rank_of_.emplace_back(stages);
      for (std::size_t rank = 0; rank < stages; ++rank) {
        rank_of_[d].at(index(schedule.stage_of[d][rank])) = rank;
      }
      const std::size_t passes = stages * index(schedule.microbatches[d]);
      forward_end_.emplace_back(passes);
      backward_end_.emplace_back(passes);
    }
    timing_.steps.resize(schedule.ranks.size());
  }

  /// @return what locks the schedule, nothing if it ran to its end
  std::optional<std::string> play() {
    // A rank that stopped is tried again when a neighbour has moved.
    std::vector<std::size_t> to_try;
    for (std::size_t rank = schedule_.ranks.size(); rank-- > 0;) to_try.push_back(rank);
    while (!to_try.empty()) {
      const std::size_t rank = to_try.back();
      to_try.pop_back();
      bool moved = false;
      while (run_next(rank)) moved = true;
      if (!moved) continue;
      for (const std::size_t neighbour : neighbours(rank)) to_try.push_back(neighbour);
    }
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      const std::size_t done = timing_.steps[rank].size();
      if (done == schedule_.ranks[rank].size()) continue;
      return fmt::format("the schedule cannot run: rank {} waits forever to start {}", rank,
                         to_text(schedule_.ranks[rank][done]));
    }
    return std::nullopt;
  }

  ScheduleTiming take() {
    summarise();
    return std::move(timing_);
  }

 private:
  [[nodiscard]] int stage(std::size_t rank, const ChunkPass& pass) const {
    return schedule_.stage_of.at(index(pass.direction)).at(rank);
  }
  [[nodiscard]] std::size_t slot(const ChunkPass& pass, int stage) const {
    const int microbatches = schedule_.microbatches[index(pass.direction)];
    PIPECAST_ASSERT(pass.microbatch >= 0 && pass.microbatch < microbatches);
    return index(stage) * index(microbatches) + index(pass.microbatch);
  }

  [[nodiscard]] std::vector<std::size_t> neighbours(std::size_t rank) const {
    std::vector<std::size_t> out;
    for (std::size_t d = 0; d < rank_of_.size(); ++d) {
      const std::size_t here = index(schedule_.stage_of[d][rank]);
      if (here > 0) out.push_back(rank_of_[d][here - 1]);
      if (here + 1 < rank_of_[d].size()) out.push_back(rank_of_[d][here + 1]);
    }
    return out;
  }

  /// When a result that `from` made at `end` can be used on `rank`.
  [[nodiscard]] std::optional<Time> arrival(std::optional<Time> end, std::size_t from,
                                            std::size_t rank) const {
    if (!end || from == rank) return end;
    return *end + costs_.transfer_latency;
  }

  /// When everything that the pass needs is on its rank; nothing while some of it is not made yet.
  [[nodiscard]] std::optional<Time> inputs_ready(std::size_t rank, const ChunkPass& pass) const {
    const std::size_t d = index(pass.direction);
    const int here = stage(rank, pass);
    if (pass.pass == Pass::kForward) {
      if (here == 0) return Time{};
      return arrival(forward_end_[d][slot(pass, here - 1)], rank_of_[d][index(here - 1)], rank);
    }
    if (pass.pass == Pass::kBackwardWeight) return backward_end_[d][slot(pass, here)];
    const std::optional<Time> own = forward_end_[d][slot(pass, here)];
    if (!own || index(here) + 1 == rank_of_[d].size()) return own;
    const std::optional<Time> after =
        arrival(backward_end_[d][slot(pass, here + 1)], rank_of_[d][index(here + 1)], rank);
    if (!after) return std::nullopt;
    return std::max(*own, *after);
  }

  [[nodiscard]] const PassDurations& costs_of(int stage) const {
    return costs_.stages.size() == 1 ? costs_.stages[0] : costs_.stages.at(index(stage));
  }

  [[nodiscard]] Duration length(std::size_t rank, const Step& step) const {
    const PassDurations& costs = costs_of(stage(rank, step.first));
    if (step.overlapped) {
      const Duration both = costs.overlapped + costs_of(stage(rank, step.second)).overlapped;
      return Duration(ceil_div(both.count(), 2));
    }
    switch (step.first.pass) {
      case Pass::kForward:
        return costs.forward;
      case Pass::kBackward:
        return costs.backward;
      case Pass::kBackwardInput:
        return costs.backward_input;
      case Pass::kBackwardWeight:
        return costs.backward_weight;
    }
    return {};
  }

  void finish(std::size_t rank, const ChunkPass& pass, Time end) {
    if (pass.pass == Pass::kBackwardWeight) return;
    auto& ends = pass.pass == Pass::kForward ? forward_end_ : backward_end_;
    ends[index(pass.direction)][slot(pass, stage(rank, pass))] = end;
  }

  bool run_next(std::size_t rank) {
    auto& done = timing_.steps[rank];
    if (done.size() == schedule_.ranks[rank].size()) return false;
    const Step& step = schedule_.ranks[rank][done.size()];
    std::optional<Time> ready = inputs_ready(rank, step.first);
    if (step.overlapped && ready) {
      const std::optional<Time> other = inputs_ready(rank, step.second);
      ready = other ? std::optional(std::max(*ready, *other)) : std::nullopt;
    }
    if (!ready) return false;
    const Time start = std::max(*ready, clock_[rank]);
    const Time end = start + length(rank, step);
    clock_[rank] = end;
    finish(rank, step.first, end);
    if (step.overlapped) finish(rank, step.second, end);
    done.push_back({start, end});
    return true;
  }

  static int peak_live(const std::vector<Step>& steps) {
    int live = 0;
    int peak = 0;
    const auto change = [&](const ChunkPass& pass) {
      if (pass.pass == Pass::kBackward || pass.pass == Pass::kBackwardInput) --live;
    };
    for (const Step& step : steps) {
      if (step.first.pass == Pass::kForward) ++live;
      peak = std::max(peak, live);
      change(step.first);
      if (step.overlapped) change(step.second);
    }
    return peak;
  }

  void summarise() {
    timing_.finish = clock_;
    for (const Time end : clock_) timing_.makespan = std::max(timing_.makespan, end);
    for (std::size_t rank = 0; rank < clock_.size(); ++rank) {
      Duration bubble = timing_.makespan - Time{};
      for (const StepTime& step : timing_.steps[rank]) bubble -= step.end - step.start;
      timing_.bubble.push_back(bubble);
      timing_.peak_live_activations.push_back(peak_live(schedule_.ranks[rank]));
    }
  }

  using Ends = std::vector<std::vector<std::optional<Time>>>;  ///< [direction][stage, micro-batch]

  const Schedule& schedule_;
  const ScheduleCosts& costs_;
  std::vector<Time> clock_;                        ///< [rank]
  std::vector<std::vector<std::size_t>> rank_of_;  ///< [direction][stage]
  Ends forward_end_;
  Ends backward_end_;  ///< of the input gradient
  ScheduleTiming timing_;
};

}  // namespace

ScheduleTiming time_schedule(const Schedule& schedule, const ScheduleCosts& costs) {
  const std::size_t stages = schedule.ranks.size();
  require(costs.stages.size() == 1 || costs.stages.size() == stages,
          "durations for {} stages; expected one set, or one for each of the {} stages",
          costs.stages.size(), stages);
  Player player(schedule, costs);
  if (const auto locked = player.play()) throw ImpossiblePlan(*locked);
  return player.take();
}

std::optional<std::string> find_deadlock(const Schedule& schedule) {
  const ScheduleCosts no_time{{PassDurations{}}, Duration{}};
  return Player(schedule, no_time).play();
}

}  // namespace pipecast
