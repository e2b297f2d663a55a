#include "model/schedules/timing.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/schedules/cost_table.hpp"
#include "model/schedules/live_chunks.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

enum class Keep : std::uint8_t { kTimes, kNothing };

/// Plays a schedule. A rank runs its steps until one lacks a result, and goes on when that result
/// is made: work is proportional to the number of passes.
class Player {
 public:
  Player(const Schedule& schedule, const ScheduleCosts& costs, Keep keep)
      : schedule_(schedule),
        costs_(costs, schedule.stages(), schedule.all_microbatches()),
        keep_(keep),
        stages_(index(schedule.stages())),
        lanes_(schedule.stage_of.size()),
        position_(schedule.ranks.size()),
        clock_(schedule.ranks.size()),
        busy_(schedule.ranks.size()),
        waits_for_(schedule.ranks.size(), kNoResult),
        link_free_(costs.transfer_time > Duration{} ? schedule.ranks.size() * schedule.ranks.size()
                                                    : 0) {
    std::vector<std::size_t> first_microbatch;  // [path]
    for (const int microbatches : schedule.microbatches) {
      first_microbatch.push_back(microbatches_);
      microbatches_ += index(microbatches);
    }
    results_ = stages_ * microbatches_;
    made_.assign(2 * results_, kNotMade);
    place_chunks(first_microbatch);
    if (keep_ == Keep::kNothing) return;
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
      run(rank);
    }
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      if (position_[rank] == schedule_.ranks[rank].size()) continue;
      return fmt::format("the schedule cannot run: rank {} waits forever to start {}", rank,
                         to_text(schedule_.ranks[rank][position_[rank]]));
    }
    return std::nullopt;
  }

  ScheduleTiming take() {
    timing_.finish = clock_;
    for (const Time end : clock_) timing_.makespan = std::max(timing_.makespan, end);
    for (const Duration busy : busy_) timing_.bubble.push_back(timing_.makespan - Time{} - busy);
    timing_.peak_live_activations = peak_live_activations(schedule_);
    return std::move(timing_);
  }

 private:
  static constexpr Time kNotMade{-1};
  static constexpr std::size_t kNoResult = static_cast<std::size_t>(-1);

  /// What a rank holds as one lane. Micro-batches of a stage lie beside each other.
  struct Chunk {
    std::size_t stage = 0;
    std::size_t first_result = 0;  // forward of its first micro-batch
    std::size_t rank_before = 0;   // of the stage before, if there is one
    std::size_t rank_after = 0;
  };

  void place_chunks(const std::vector<std::size_t>& first_microbatch) {
    const std::vector<std::vector<StageHolder>> holders = holders_of_stages(schedule_);
    chunks_.reserve(schedule_.ranks.size() * lanes_);
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      for (std::size_t lane = 0; lane < lanes_; ++lane) {
        const std::size_t path = index(schedule_.path_of(static_cast<int>(lane)));
        const std::size_t stage = index(schedule_.stage_of[lane][rank]);
        Chunk chunk{.stage = stage, .first_result = stage * microbatches_ + first_microbatch[path]};
        if (stage > 0) chunk.rank_before = index(holders[path][stage - 1].rank);
        if (stage + 1 < stages_) chunk.rank_after = index(holders[path][stage + 1].rank);
        chunks_.push_back(chunk);
      }
    }
  }

  [[nodiscard]] const Chunk& chunk_of(std::size_t rank, const ChunkPass& pass) const {
    return chunks_[rank * lanes_ + index(pass.lane)];
  }
  [[nodiscard]] static std::size_t forward_of(const Chunk& chunk, const ChunkPass& pass) {
    return chunk.first_result + index(pass.microbatch);
  }

  /// Whether a result of the same rank is there.
  bool is_made(std::size_t rank, std::size_t result) {
    if (made_[result] != kNotMade) return true;
    waits_for_[rank] = result;
    return false;
  }
  /// Whether a result is there or on its way; `start` becomes no earlier than its arrival.
  bool wait_for(std::size_t rank, std::size_t result, Time& start) {
    start = std::max(start, made_[result]);
    return is_made(rank, result);
  }
  /// Whether everything that the pass needs is made.
  bool wait_for_inputs(std::size_t rank, const ChunkPass& pass, Time& start) {
    const Chunk& chunk = chunk_of(rank, pass);
    const std::size_t forward = forward_of(chunk, pass);
    const std::size_t backward = results_ + forward;
    switch (pass.pass) {
      case Pass::kForward:
        return chunk.stage == 0 || wait_for(rank, forward - microbatches_, start);
      case Pass::kBackwardWeight:
        // Any time after its own Bi, which is earlier in the same list.
        return is_made(rank, backward);
      case Pass::kBackward:
      case Pass::kBackwardInput:
        break;
    }
    return is_made(rank, forward) &&
           (chunk.stage + 1 == stages_ || wait_for(rank, backward + microbatches_, start));
  }

  [[nodiscard]] const PassDurations& durations(std::size_t rank, const ChunkPass& pass) const {
    const Chunk& chunk = chunk_of(rank, pass);
    const std::size_t microbatch = forward_of(chunk, pass) - chunk.stage * microbatches_;
    return costs_.of(static_cast<int>(chunk.stage), static_cast<int>(microbatch));
  }

  [[nodiscard]] Duration length(std::size_t rank, const Step& step) const {
    const PassDurations& first = durations(rank, step.first);
    if (step.overlapped) {
      const Duration both = first.overlapped + durations(rank, step.second).overlapped;
      return Duration(ceil_div(both.count(), 2));
    }
    return duration_of(step.first.pass, first);
  }

  /// When a result made at `end` can be used on rank `to`.
  Time arrival(std::size_t from, std::size_t to, Time end) {
    if (from == to) return end;
    if (link_free_.empty()) return end + costs_.transfer_latency();
    Time& free = link_free_[from * schedule_.ranks.size() + to];
    free = std::max(free, end) + costs_.transfer_time();
    return free + costs_.transfer_latency();
  }

  /// Hands on what the pass made. Its own rank's list orders what follows there.
  void finish(std::size_t rank, const ChunkPass& pass, Time end) {
    if (pass.pass == Pass::kBackwardWeight) return;
    const Chunk& chunk = chunk_of(rank, pass);
    const bool forward = pass.pass == Pass::kForward;
    const std::size_t result = forward_of(chunk, pass) + (forward ? 0 : results_);
    if (chunk.stage == (forward ? stages_ - 1 : 0)) {
      made_[result] = end;
      return;
    }
    const std::size_t to = forward ? chunk.rank_after : chunk.rank_before;
    made_[result] = arrival(rank, to, end);
    if (waits_for_[to] != result) return;
    waits_for_[to] = kNoResult;
    awake_.push_back(to);
  }

  void run(std::size_t rank) {
    const std::vector<Step>& steps = schedule_.ranks[rank];
    for (std::size_t& position = position_[rank]; position < steps.size(); ++position) {
      const Step& step = steps[position];
      Time start = clock_[rank];
      if (!wait_for_inputs(rank, step.first, start)) return;
      if (step.overlapped && !wait_for_inputs(rank, step.second, start)) return;
      const Duration taken = length(rank, step);
      const Time end = start + taken;
      clock_[rank] = end;
      busy_[rank] += taken;
      if (keep_ == Keep::kTimes) timing_.steps[rank].push_back({start, end});
      finish(rank, step.first, end);
      if (step.overlapped) finish(rank, step.second, end);
    }
  }

  const Schedule& schedule_;
  CostTable costs_;
  Keep keep_;
  std::size_t stages_;
  std::size_t lanes_;
  std::size_t microbatches_ = 0;        // of all paths
  std::size_t results_ = 0;             // of all forwards, and of all backwards
  std::vector<Chunk> chunks_;           // [rank][lane]
  std::vector<std::size_t> position_;   // [rank]: steps done
  std::vector<Time> clock_;             // [rank]
  std::vector<Duration> busy_;          // [rank]
  std::vector<std::size_t> waits_for_;  // [rank]: the result that its next step lacks
  std::vector<std::size_t> awake_;      // ranks to try
  std::vector<Time> made_;              // [forward, backward][stage][micro-batch]: when the next
                                        // stage can use it
  std::vector<Time> link_free_;         // [from][to]; empty if results occupy no link
  ScheduleTiming timing_;
};

}  // namespace

ScheduleTiming time_schedule(const Schedule& schedule, const ScheduleCosts& costs) {
  Player player(schedule, costs, Keep::kTimes);
  if (const auto locked = player.play()) throw ImpossiblePlan(*locked);
  return player.take();
}

std::optional<std::string> find_deadlock(const Schedule& schedule) {
  const ScheduleCosts no_time{.passes = {PassDurations{}}};
  return Player(schedule, no_time, Keep::kNothing).play();
}

}  // namespace pipecast
