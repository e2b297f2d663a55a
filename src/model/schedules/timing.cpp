#include "model/schedules/timing.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/schedules/live_chunks.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// Plays a schedule. A rank runs its steps until one lacks an input, and goes on when that input
/// is made: work is proportional to the number of passes.
class Player {
 public:
  Player(const Schedule& schedule, const ScheduleCosts& costs)
      : schedule_(schedule),
        costs_(costs),
        holders_(holders_of_stages(schedule)),
        stages_(index(schedule.stages())),
        clock_(schedule.ranks.size()),
        asleep_(schedule.ranks.size()),
        link_free_(costs.transfer_time > Duration{} ? schedule.ranks.size() * schedule.ranks.size()
                                                    : 0) {
    for (const int microbatches : schedule.microbatches) {
      first_microbatch_.push_back(microbatches_);
      microbatches_ += index(microbatches);
    }
    const std::size_t given = costs.passes.size();
    per_microbatch_ = given != 1 && given != stages_;
    require(!per_microbatch_ || given == stages_ * microbatches_,
            "durations for {} stages; expected one set, one for each of the {} stages, or one for "
            "each stage and each of {} micro-batches",
            given, stages_, microbatches_);
    forward_end_.assign(stages_ * microbatches_, kNotMade);
    backward_end_.assign(stages_ * microbatches_, kNotMade);
    timing_.steps.resize(schedule.ranks.size());
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      timing_.steps[rank].reserve(schedule.ranks[rank].size());
    }
  }

  /// @return what locks the schedule, nothing if it ran to its end
  std::optional<std::string> play() {
    for (std::size_t rank = schedule_.ranks.size(); rank-- > 0;) awake_.push_back(rank);
    while (!awake_.empty()) {
      const std::size_t rank = awake_.back();
      awake_.pop_back();
      while (run_next(rank)) {
      }
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
    timing_.finish = clock_;
    for (const Time end : clock_) timing_.makespan = std::max(timing_.makespan, end);
    for (const std::vector<StepTime>& steps : timing_.steps) {
      Duration bubble = timing_.makespan - Time{};
      for (const StepTime& step : steps) bubble -= step.end - step.start;
      timing_.bubble.push_back(bubble);
    }
    timing_.peak_live_activations = peak_live_activations(schedule_);
    return std::move(timing_);
  }

 private:
  /// When a result can be used where it is needed.
  static constexpr Time kNotMade{-1};

  [[nodiscard]] std::size_t microbatch_of(const ChunkPass& pass) const {
    return first_microbatch_[index(schedule_.path_of(pass.lane))] + index(pass.microbatch);
  }
  [[nodiscard]] std::size_t stage_of(std::size_t rank, const ChunkPass& pass) const {
    return index(schedule_.stage_of[index(pass.lane)][rank]);
  }
  /// Micro-batches of a stage lie beside each other.
  [[nodiscard]] std::size_t slot(std::size_t stage, std::size_t microbatch) const {
    return stage * microbatches_ + microbatch;
  }

  /// When everything that the pass needs is on its rank; kNotMade while some of it is not made yet.
  [[nodiscard]] Time inputs_ready(std::size_t rank, const ChunkPass& pass) const {
    const std::size_t stage = stage_of(rank, pass);
    const std::size_t here = slot(stage, microbatch_of(pass));
    switch (pass.pass) {
      case Pass::kForward:
        return stage == 0 ? Time{} : forward_end_[here - microbatches_];
      case Pass::kBackwardWeight:
        // Any time after its own Bi, which is earlier in the same list.
        return backward_end_[here] == kNotMade ? kNotMade : Time{};
      case Pass::kBackward:
      case Pass::kBackwardInput:
        break;
    }
    const bool own = forward_end_[here] != kNotMade;
    if (stage + 1 == stages_) return own ? Time{} : kNotMade;
    return own ? backward_end_[here + microbatches_] : kNotMade;
  }

  [[nodiscard]] const PassDurations& durations(std::size_t rank, const ChunkPass& pass) const {
    if (costs_.passes.size() == 1) return costs_.passes.front();
    const std::size_t stage = stage_of(rank, pass);
    return costs_.passes[per_microbatch_ ? stage * microbatches_ + microbatch_of(pass) : stage];
  }

  [[nodiscard]] Duration length(std::size_t rank, const Step& step) const {
    const PassDurations& first = durations(rank, step.first);
    if (step.overlapped) {
      const Duration both = first.overlapped + durations(rank, step.second).overlapped;
      return Duration(ceil_div(both.count(), 2));
    }
    switch (step.first.pass) {
      case Pass::kForward:
        return first.forward;
      case Pass::kBackward:
        return first.backward;
      case Pass::kBackwardInput:
        return first.backward_input;
      case Pass::kBackwardWeight:
        return first.backward_weight;
    }
    return {};
  }

  /// When a result made at `end` can be used on rank `to`.
  Time arrival(std::size_t from, std::size_t to, Time end) {
    if (from == to) return end;
    if (link_free_.empty()) return end + costs_.transfer_latency;
    Time& free = link_free_[from * schedule_.ranks.size() + to];
    free = std::max(free, end) + costs_.transfer_time;
    return free + costs_.transfer_latency;
  }

  /// Hands on what the pass made. Its own rank's list orders what follows there.
  void finish(std::size_t rank, const ChunkPass& pass, Time end) {
    if (pass.pass == Pass::kBackwardWeight) return;
    const std::size_t stage = stage_of(rank, pass);
    const std::size_t here = slot(stage, microbatch_of(pass));
    const bool forward = pass.pass == Pass::kForward;
    const bool last = forward ? stage + 1 == stages_ : stage == 0;
    std::vector<Time>& ends = forward ? forward_end_ : backward_end_;
    if (last) {
      ends[here] = end;
      return;
    }
    const std::size_t next = forward ? stage + 1 : stage - 1;
    const std::size_t to = index(holders_[index(schedule_.path_of(pass.lane))][next].rank);
    ends[here] = arrival(rank, to, end);
    if (asleep_[to] && to != rank) {
      asleep_[to] = false;
      awake_.push_back(to);
    }
  }

  bool run_next(std::size_t rank) {
    auto& done = timing_.steps[rank];
    if (done.size() == schedule_.ranks[rank].size()) return false;
    const Step& step = schedule_.ranks[rank][done.size()];
    Time ready = inputs_ready(rank, step.first);
    if (step.overlapped && ready != kNotMade) {
      const Time other = inputs_ready(rank, step.second);
      ready = other == kNotMade ? kNotMade : std::max(ready, other);
    }
    if (ready == kNotMade) {
      asleep_[rank] = true;
      return false;
    }
    const Time start = std::max(ready, clock_[rank]);
    const Time end = start + length(rank, step);
    clock_[rank] = end;
    done.push_back({start, end});
    finish(rank, step.first, end);
    if (step.overlapped) finish(rank, step.second, end);
    return true;
  }

  const Schedule& schedule_;
  const ScheduleCosts& costs_;
  std::vector<std::vector<StageHolder>> holders_;  // [path][stage]
  std::size_t stages_;
  std::vector<std::size_t> first_microbatch_;  // [path]
  std::size_t microbatches_ = 0;               // of all paths
  bool per_microbatch_ = false;                // whether costs differ between micro-batches
  std::vector<Time> clock_;                    // [rank]
  std::vector<char> asleep_;                   // [rank]: waits for another rank
  std::vector<std::size_t> awake_;             // ranks to try
  std::vector<Time> forward_end_;              // [stage][micro-batch]: usable by the next stage
  std::vector<Time> backward_end_;             // the same of the input gradient
  std::vector<Time> link_free_;                // [from][to]; empty if results occupy no link
  ScheduleTiming timing_;
};

}  // namespace

ScheduleTiming time_schedule(const Schedule& schedule, const ScheduleCosts& costs) {
  Player player(schedule, costs);
  if (const auto locked = player.play()) throw ImpossiblePlan(*locked);
  return player.take();
}

std::optional<std::string> find_deadlock(const Schedule& schedule) {
  const ScheduleCosts no_time{.passes = {PassDurations{}}};
  return Player(schedule, no_time).play();
}

}  // namespace pipecast
