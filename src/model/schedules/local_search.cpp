#include "model/schedules/local_search.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "model/schedules/cost_table.hpp"
#include "model/schedules/live_chunks.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// Whether `later` must stay behind `earlier` in a rank's list.
bool needs(const Step& later, const Step& earlier) {
  const auto same_chunk = [](const ChunkPass& a, const ChunkPass& b) {
    return a.lane == b.lane && a.microbatch == b.microbatch;
  };
  const auto any = [&](const ChunkPass& pass) {
    return same_chunk(pass, earlier.first) ||
           (earlier.overlapped && same_chunk(pass, earlier.second));
  };
  return any(later.first) || (later.overlapped && any(later.second));
}

bool keeps_limit(const std::vector<Step>& steps, int lanes, int limit) {
  LiveChunks chunks(lanes, /*forward_only=*/false);
  for (const Step& step : steps) {
    chunks.start(step);
    if (chunks.live() > limit) return false;
    chunks.finish(step);
  }
  return true;
}

std::optional<ScheduleTiming> try_timing(const Schedule& schedule, const ScheduleCosts& costs) {
  try {
    return time_schedule(schedule, costs);
  } catch (const ImpossiblePlan&) {  // the ranks wait for each other
    return std::nullopt;
  }
}

/// Where a pass of a schedule stands.
struct Position {
  std::size_t rank = 0;
  std::size_t step = 0;
};

/// Finds the step that makes the input of another.
class Producers {
 public:
  explicit Producers(const Schedule& schedule)
      : schedule_(schedule), stages_(index(schedule.stages())) {
    for (const int count : schedule.microbatches) most_ = std::max(most_, index(count));
    position_.resize(2 * schedule.microbatches.size() * stages_ * most_);
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) refresh(rank);
  }

  void refresh(std::size_t rank) {
    const std::vector<Step>& steps = schedule_.ranks[rank];
    for (std::size_t i = 0; i < steps.size(); ++i) {
      note(rank, i, steps[i].first);
      if (steps[i].overlapped) note(rank, i, steps[i].second);
    }
  }

  /// Of the pass's input from the stage before (or after, backwards); nothing if it has none.
  std::optional<Position> of(std::size_t rank, const ChunkPass& pass) const {
    const int stage = stage_of(rank, pass);
    if (pass.pass == Pass::kBackwardWeight) return std::nullopt;
    const bool forward = pass.pass == Pass::kForward;
    const int from = forward ? stage - 1 : stage + 1;
    if (from < 0 || index(from) == stages_) return std::nullopt;
    return position_[slot(forward, schedule_.path_of(pass.lane), from, pass.microbatch)];
  }

  /// Of the pass that uses what this one makes.
  std::optional<Position> user_of(std::size_t rank, const ChunkPass& pass) const {
    const int stage = stage_of(rank, pass);
    const bool forward = pass.pass == Pass::kForward;
    const int to = forward ? stage + 1 : stage - 1;
    if (to < 0 || index(to) == stages_) return std::nullopt;
    return position_[slot(forward, schedule_.path_of(pass.lane), to, pass.microbatch)];
  }

  int stage_of(std::size_t rank, const ChunkPass& pass) const {
    return schedule_.stage_of[index(pass.lane)][rank];
  }

 private:
  std::size_t slot(bool forward, int path, int stage, int microbatch) const {
    return ((index(path) * stages_ + index(stage)) * most_ + index(microbatch)) * 2 +
           (forward ? 0 : 1);
  }
  void note(std::size_t rank, std::size_t step, const ChunkPass& pass) {
    if (pass.pass == Pass::kBackwardWeight) return;
    position_[slot(pass.pass == Pass::kForward, schedule_.path_of(pass.lane), stage_of(rank, pass),
                   pass.microbatch)] = {rank, step};
  }

  const Schedule& schedule_;
  std::size_t stages_;
  std::size_t most_ = 0;            // micro-batches of a path
  std::vector<Position> position_;  // [path][stage][micro-batch][forward, backward]
};

/// Steps `first`..`last` of a rank run back to back on the critical path.
struct Block {
  std::size_t rank = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

/// From the step that ends last back to the start, the input before the rank's own order.
std::vector<Block> critical_blocks(const Schedule& schedule, const ScheduleTiming& timing,
                                   const Producers& producers) {
  Position at;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    if (timing.finish[rank] == timing.makespan) {
      at = {rank, schedule.ranks[rank].size() - 1};
      break;
    }
  }
  std::vector<Block> out;
  Block block{at.rank, at.step, at.step};
  while (true) {
    const std::vector<StepTime>& times = timing.steps[at.rank];
    if (at.step > 0 && times[at.step - 1].end == times[at.step].start) {
      --at.step;
      block.first = at.step;
      continue;
    }
    out.push_back(block);
    if (times[at.step].start == Time{}) return out;
    const Step& step = schedule.ranks[at.rank][at.step];
    std::optional<Position> from = producers.of(at.rank, step.first);
    if (step.overlapped) {
      const std::optional<Position> other = producers.of(at.rank, step.second);
      const auto end = [&](const Position& p) { return timing.steps[p.rank][p.step].end; };
      if (!from || (other && end(*other) > end(*from))) from = other;
    }
    if (!from) return out;
    at = *from;
    block = {at.rank, at.step, at.step};
  }
}

/// Moves the step at `from` to `to`, if nothing between needs the order.
bool move_step(std::vector<Step>& steps, std::size_t from, std::size_t to) {
  const auto at = [&](std::size_t i) { return steps.begin() + static_cast<std::ptrdiff_t>(i); };
  if (from > to) {
    for (std::size_t i = to; i < from; ++i) {
      if (needs(steps[from], steps[i])) return false;
    }
    std::rotate(at(to), at(from), at(from + 1));
  } else {
    for (std::size_t i = from + 1; i <= to; ++i) {
      if (needs(steps[i], steps[from])) return false;
    }
    std::rotate(at(from), at(from + 1), at(to + 1));
  }
  return true;
}

/// Makes a B of the Bi at `at` and its W, or the other way round.
bool split_or_join(std::vector<Step>& steps, std::size_t at) {
  Step& step = steps[at];
  if (step.overlapped) return false;
  const auto position = steps.begin() + static_cast<std::ptrdiff_t>(at);
  if (step.first.pass == Pass::kBackward) {
    step.first.pass = Pass::kBackwardInput;
    Step weight = step;
    weight.first.pass = Pass::kBackwardWeight;
    steps.insert(position + 1, weight);
    return true;
  }
  if (step.first.pass != Pass::kBackwardInput) return false;
  const auto weight =
      std::find_if(position + 1, steps.end(), [&](const Step& s) { return needs(s, step); });
  step.first.pass = Pass::kBackward;
  steps.erase(weight);
  return true;
}

/// A random change within a block of the critical path.
bool change(std::vector<Step>& steps, const Block& block, Random& random) {
  const std::size_t length = block.last - block.first + 1;
  const std::size_t any = block.first + random.below(length);
  if (length == 1) return split_or_join(steps, any);
  const std::size_t i = block.first + random.below(length - 1);
  switch (random.below(5)) {
    case 0:
      return move_step(steps, i + 1, block.first);
    case 1:
      return move_step(steps, i, block.last);
    case 2:
      return split_or_join(steps, any);
    default:
      return move_step(steps, i + 1, i);
  }
}

}  // namespace

Schedule improve_locally(Schedule schedule, const ScheduleCosts& costs,
                         const LocalSearchLimits& limits, Random& random) {
  // A change that cannot be made costs little, but not nothing.
  constexpr std::int64_t kTriesPerTiming = 20;
  // Annealing starts where a schedule longer by this share of the makespan is kept once in e times.
  constexpr double kHeat = 0.002;
  std::int64_t steps = 0;
  for (const std::vector<Step>& of_rank : schedule.ranks) {
    steps += static_cast<std::int64_t>(of_rank.size());
  }
  ScheduleTiming timing = time_schedule(schedule, costs);
  Producers producers(schedule);
  std::vector<Block> blocks = critical_blocks(schedule, timing, producers);
  Schedule best = schedule;
  Time best_makespan = timing.makespan;
  const std::int64_t timings = limits.timed_steps / std::max<std::int64_t>(steps, 1);
  const double heat = kHeat * static_cast<double>(timing.makespan.count());
  std::int64_t tries = timings * kTriesPerTiming;
  for (std::int64_t timed = 0; timed < timings && tries-- > 0;) {
    if (best_makespan - Time{} <= limits.goal) break;
    const Block block = blocks[random.below(blocks.size())];
    std::vector<Step>& order = schedule.ranks[block.rank];
    std::vector<Step> before = order;
    if (!change(order, block, random) ||
        !keeps_limit(order, schedule.lanes(), limits.live_chunks)) {
      order = std::move(before);
      continue;
    }
    const double left = 1.0 - static_cast<double>(timed++) / static_cast<double>(timings);
    std::optional<ScheduleTiming> changed = try_timing(schedule, costs);
    const double allowed = -std::log(1.0 - random.uniform()) * heat * left;
    if (!changed || static_cast<double>((changed->makespan - timing.makespan).count()) > allowed) {
      order = std::move(before);
      continue;
    }
    timing = std::move(*changed);
    if (timing.makespan < best_makespan) {
      best = schedule;
      best_makespan = timing.makespan;
    }
    producers.refresh(block.rank);
    blocks = critical_blocks(schedule, timing, producers);
  }
  return best;
}

Schedule join_backwards(const Schedule& schedule, const ScheduleCosts& costs) {
  const CostTable table(costs, schedule.stages(), schedule.all_microbatches());
  const ScheduleTiming timing = time_schedule(schedule, costs);
  const Producers producers(schedule);
  Schedule out = schedule;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const std::vector<Step>& steps = schedule.ranks[rank];
    std::vector<Step>& joined = out.ranks[rank];
    joined.clear();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const ChunkPass& pass = steps[i].first;
      const bool pair = pass.pass == Pass::kBackwardInput && i + 1 < steps.size() &&
                        steps[i + 1].first.pass == Pass::kBackwardWeight &&
                        needs(steps[i + 1], steps[i]);
      joined.push_back(steps[i]);
      if (!pair) continue;
      const PassDurations& d = table.of(producers.stage_of(rank, pass), pass.microbatch);
      if (d.backward > d.backward_input + d.backward_weight) continue;
      const std::optional<Position> user = producers.user_of(rank, pass);
      const Time start = timing.steps[rank][i].start;
      if (user && timing.steps[user->rank][user->step].start <
                      start + d.backward +
                          table.hop(static_cast<int>(rank), static_cast<int>(user->rank))) {
        continue;
      }
      joined.back().first.pass = Pass::kBackward;
      ++i;
    }
  }
  return out;
}

}  // namespace pipecast
