#include "model/schedules/makespan_bound.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

#include "model/schedules/cost_table.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// What some order of the placement may do.
struct Allowed {
  bool backward = false;
  bool pairs = false;
};

Allowed what_runs(const Schedule& schedule) {
  Allowed out;
  for (const std::vector<Step>& steps : schedule.ranks) {
    for (const Step& step : steps) {
      out.pairs |= step.overlapped;
      out.backward |= step.overlapped || step.first.pass != Pass::kForward;
    }
  }
  return out;
}

/// One micro-batch on one stage: what each of its passes takes at least, and the shortest chains
/// before and after. A full backward counts as `backward` with `weight` right behind it.
struct Chunk {
  Duration forward{};
  Duration backward{};
  Duration weight{};
  Duration forward_head{};  ///< before the start
  Duration backward_head{};
  Duration forward_tail{};   ///< after the end
  Duration backward_tail{};  ///< after the end of `backward`

  [[nodiscard]] Duration lifetime() const { return backward_head + backward - forward_head; }
};

/// A pass of the one-machine problem.
struct Work {
  Duration head{};
  Duration length{};
  Duration tail{};
};

/// Preemptive optimum: at every instant the longest tail of what is ready (Jackson; Carlier 1982).
Duration one_machine_bound(std::vector<Work>& works) {
  std::sort(works.begin(), works.end(),
            [](const Work& a, const Work& b) { return a.head < b.head; });
  using Open = std::pair<Duration, Duration>;  // tail, what is left
  std::priority_queue<Open> open;
  Duration now{};
  Duration bound{};
  std::size_t next = 0;
  while (next < works.size() || !open.empty()) {
    if (open.empty()) now = std::max(now, works[next].head);
    while (next < works.size() && works[next].head <= now) {
      open.emplace(works[next].tail, works[next].length);
      ++next;
    }
    auto [tail, left] = open.top();
    open.pop();
    const bool cut = next < works.size() && works[next].head < now + left;
    const Duration ran = cut ? works[next].head - now : left;
    now += ran;
    if (cut) {
      open.emplace(tail, left - ran);
    } else {
      bound = std::max(bound, now + tail);
    }
  }
  return bound;
}

class Bounder {
 public:
  Bounder(const Schedule& schedule, const ScheduleCosts& costs, int limit)
      : schedule_(schedule),
        costs_(costs, schedule.stages(), schedule.all_microbatches()),
        allowed_(what_runs(schedule)),
        limit_(limit),
        holders_(holders_of_stages(schedule)) {
    if (allowed_.pairs) {
      for (int rank = 0; rank < static_cast<int>(schedule.ranks.size()); ++rank) {
        shifts_.push_back(pair_shift(rank));
      }
    }
    int first = 0;
    for (int path = 0; path < schedule.paths(); ++path) {
      const int count = schedule.microbatches[index(path)];
      auto& of_path = chunks_.emplace_back();
      // Equal micro-batches have equal chains: one stands for all.
      for (int i = 0; i < (costs_.per_microbatch() ? count : std::min(count, 1)); ++i) {
        of_path.push_back(chain(path, first + i));
      }
      first += count;
    }
  }

  Duration bound() const {
    Duration out{};
    for (int rank = 0; rank < static_cast<int>(schedule_.ranks.size()); ++rank) {
      out = std::max(out, work_bound(rank));
      if (limit_ > 0 && allowed_.backward) out = std::max(out, area_bound(rank));
    }
    return out;
  }

 private:
  /// A pair takes the mean of its halves' `overlapped`, so a forward may count for half of it less
  /// d and a backward for half of it plus d, with one d for the rank: here what makes it fair.
  Duration pair_shift(int rank) const {
    Duration shift{};
    Duration most(std::numeric_limits<std::int64_t>::max());
    int first = 0;
    for (int lane = 0; lane < schedule_.lanes(); ++lane) {
      const int stage = schedule_.stage_of[index(lane)][index(rank)];
      const int count = microbatches(lane);
      for (int i = 0; i < count; ++i) {
        const PassDurations& d = costs_.of(stage, first + i);
        if (lane == 0 && i == 0) shift = Duration((d.backward - d.forward).count() / 2);
        most = std::min(most, Duration(d.overlapped.count() / 2));
      }
      if (schedule_.paths() > 1) first += count;
    }
    return std::clamp(shift, Duration{} - most, most);
  }

  Chunk least_lengths(int rank, int stage, int microbatch) const {
    const PassDurations& d = costs_.of(stage, microbatch);
    Chunk out;
    out.forward = d.forward;
    if (allowed_.backward) {
      out.backward = std::min(d.backward, d.backward_input);
      out.weight = std::min(d.backward, d.backward_input + d.backward_weight) - out.backward;
    }
    if (allowed_.pairs) {
      const Duration half(d.overlapped.count() / 2);
      const Duration beside = half + shifts_[index(rank)];
      const Duration whole = std::min(beside, out.backward + out.weight);
      out.forward = std::min(out.forward, half - shifts_[index(rank)]);
      out.backward = std::min(out.backward, beside);
      out.weight = whole - out.backward;
    }
    return out;
  }

  /// [stage] of one micro-batch.
  std::vector<Chunk> chain(int path, int microbatch) const {
    const auto& holders = holders_[index(path)];
    const int stages = schedule_.stages();
    const auto hop = [&](int stage) {  // to the stage after
      return costs_.hop(holders[index(stage)].rank, holders[index(stage + 1)].rank);
    };
    std::vector<Chunk> out;
    for (int s = 0; s < stages; ++s) {
      out.push_back(least_lengths(holders[index(s)].rank, s, microbatch));
    }
    for (int s = 0; s + 1 < stages; ++s) {
      out[index(s + 1)].forward_head = out[index(s)].forward_head + out[index(s)].forward + hop(s);
    }
    Chunk& last = out.back();
    last.backward_head = last.forward_head + last.forward;
    for (int s = stages - 2; s >= 0; --s) {
      const Chunk& after = out[index(s + 1)];
      out[index(s)].backward_head = after.backward_head + after.backward + hop(s);
    }
    out.front().backward_tail = out.front().weight;
    for (int s = 1; s < stages; ++s) {
      const Chunk& before = out[index(s - 1)];
      out[index(s)].backward_tail =
          std::max(out[index(s)].weight, hop(s - 1) + before.backward + before.backward_tail);
    }
    if (allowed_.backward) last.forward_tail = last.backward + last.backward_tail;
    for (int s = stages - 2; s >= 0; --s) {
      const Chunk& after = out[index(s + 1)];
      out[index(s)].forward_tail = hop(s) + after.forward + after.forward_tail;
    }
    return out;
  }

  const Chunk& chunk(int rank, int lane, int microbatch) const {
    const auto& of_path = chunks_[index(schedule_.path_of(lane))];
    return of_path[costs_.per_microbatch() ? index(microbatch) : 0]
                  [index(schedule_.stage_of[index(lane)][index(rank)])];
  }
  int microbatches(int lane) const {
    return schedule_.microbatches[index(schedule_.path_of(lane))];
  }

  /// Most chunks of the lane that the rank can hold: while one lives, so do those of its
  /// micro-batch in the earlier stages of the path on this rank.
  int lane_limit(int rank, int lane) const {
    int held = 1;
    for (int other = 0; other < schedule_.lanes(); ++other) {
      const bool earlier = schedule_.stage_of[index(other)][index(rank)] <
                           schedule_.stage_of[index(lane)][index(rank)];
      if (earlier && schedule_.path_of(other) == schedule_.path_of(lane)) ++held;
    }
    return std::max(limit_ / held, 1);
  }

  Duration work_bound(int rank) const {
    std::vector<Work> works;
    for (int lane = 0; lane < schedule_.lanes(); ++lane) {
      const int count = microbatches(lane);
      const int limit = lane_limit(rank, lane);
      for (int i = 0; i < count; ++i) {
        const Chunk& c = chunk(rank, lane, i);
        Duration later{};    // round trips of the limit before the i-th of this lane ...
        Duration earlier{};  // ... and after it
        if (limit_ > 0 && allowed_.backward && !costs_.per_microbatch()) {
          later = c.lifetime() * (i / limit);
          earlier = c.lifetime() * ((count - 1 - i) / limit);
        }
        works.push_back({c.forward_head + later, c.forward, c.forward_tail + earlier});
        if (!allowed_.backward) continue;
        const Duration start = c.backward_head + later;
        works.push_back({start, c.backward, c.backward_tail + earlier});
        works.push_back({start + c.backward, c.weight, Duration{}});
      }
    }
    return one_machine_bound(works);
  }

  /// Of all lanes together, and of each lane alone.
  Duration area_bound(int rank) const {
    std::vector<int> lanes(index(schedule_.lanes()));
    std::iota(lanes.begin(), lanes.end(), 0);
    Duration out = area_bound(rank, lanes, limit_);
    for (const int lane : lanes) {
      out = std::max(out, area_bound(rank, {lane}, lane_limit(rank, lane)));
    }
    return out;
  }

  Duration area_bound(int rank, const std::vector<int>& lanes, int limit) const {
    constexpr Duration kNone(std::numeric_limits<std::int64_t>::max());
    Duration head = kNone;
    Duration tail = kNone;
    Duration forward = kNone;
    Duration backward = kNone;
    Duration area{};
    int chunks = 0;
    for (const int lane : lanes) {
      for (int i = 0; i < microbatches(lane); ++i) {
        const Chunk& c = chunk(rank, lane, i);
        head = std::min(head, c.forward_head);
        tail = std::min(tail, c.backward_tail);
        forward = std::min(forward, c.forward);
        backward = std::min(backward, c.backward);
        area += c.lifetime();
        ++chunks;
      }
    }
    if (chunks == 0) return {};
    // With j places in use, place k for k (F + Bi) less than the whole span.
    Duration least = area;
    for (int j = 2; j <= std::min(limit, chunks); ++j) {
      const Duration idle = (forward + backward) * (std::int64_t{j} * (j - 1) / 2);
      least = std::min(least, Duration(ceil_div((area + idle).count(), j)));
    }
    return head + least + tail;
  }

  const Schedule& schedule_;
  CostTable costs_;
  Allowed allowed_;
  int limit_;
  std::vector<std::vector<StageHolder>> holders_;        // [path][stage]
  std::vector<Duration> shifts_;                         // [rank], if there are pairs
  std::vector<std::vector<std::vector<Chunk>>> chunks_;  // [path][micro-batch or 0][stage]
};

}  // namespace

Duration makespan_bound(const Schedule& schedule, const ScheduleCosts& costs,
                        int activation_limit) {
  return Bounder(schedule, costs, activation_limit).bound();
}

}  // namespace pipecast
