#include "model/schedules/list_scheduler.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

#include "base/assert.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

constexpr Time kNever{std::numeric_limits<std::int64_t>::max()};

Duration part(Duration whole, double share) {
  return Duration(static_cast<std::int64_t>(static_cast<double>(whole.count()) * share));
}

/// One direction of one lane of a rank: inputs arrive, and are used, in the order of micro-batches.
struct Inputs {
  std::vector<Time> arrival;  // of those known so far
  std::size_t used = 0;

  [[nodiscard]] Time next() const { return used < arrival.size() ? arrival[used] : kNever; }
};

struct Rank {
  Time free{};
  std::vector<Inputs> forwards;   // [lane]
  std::vector<Inputs> backwards;  // [lane]
  int all_live = 0;
  std::queue<ChunkPass> deferred;  // W, oldest first
  std::size_t left = 0;            // forwards and backwards to run
};

/// A forward or backward that a rank may run next.
struct Candidate {
  ChunkPass pass;
  Time arrival = kNever;
  Duration due{};
  Duration length{};
};

class ListScheduler {
 public:
  ListScheduler(const Schedule& placement, const CostTable& costs, const ListPolicy& policy)
      : costs_(costs),
        policy_(policy),
        holders_(holders_of_stages(placement).front()),
        microbatches_(placement.microbatches.front()) {
    out_.stage_of = placement.stage_of;
    out_.microbatches = placement.microbatches;
    const std::size_t ranks = placement.stage_of.front().size();
    const auto lanes = index(placement.lanes());
    out_.ranks.resize(ranks);
    ranks_.resize(ranks);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      ranks_[rank].forwards.resize(lanes);
      ranks_[rank].backwards.resize(lanes);
      ranks_[rank].left = 2 * lanes * index(microbatches_);
      out_.ranks[rank].reserve(3 * lanes * index(microbatches_));
    }
    link_free_.resize(ranks * ranks);
  }

  Schedule make() {
    const StageHolder& first = holders_.front();
    std::vector<Time>& entry = ranks_[index(first.rank)].forwards[index(first.lane)].arrival;
    for (int i = 0; i < microbatches_; ++i) entry.push_back(Time{} + policy_.pace * i);
    wake(Time{}, first.rank);
    while (!wakes_.empty()) {
      const auto [now, rank] = wakes_.top();
      wakes_.pop();
      if (ranks_[index(rank)].free <= now) decide(now, rank);
    }
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      PIPECAST_ASSERT(ranks_[rank].left == 0 && ranks_[rank].deferred.empty());
    }
    return std::move(out_);
  }

 private:
  void wake(Time when, int rank) { wakes_.emplace(when, rank); }

  int stage_of(int rank, int lane) const { return out_.stage_of[index(lane)][index(rank)]; }

  /// Room for another chunk of the lane. Those that still have to pass a later lane of the rank
  /// leave it a place, so that what is furthest along always goes on.
  static bool has_room(const Rank& rank, int limit, int lane) {
    if (rank.all_live >= limit) return false;
    if (index(lane) + 1 == rank.forwards.size()) return true;
    const std::size_t on_the_way = rank.forwards[index(lane)].used - rank.forwards.back().used;
    return on_the_way + 1 < index(limit);
  }

  Candidate candidate(int rank, int lane, Pass pass) const {
    const Rank& r = ranks_[index(rank)];
    const bool forward = pass == Pass::kForward;
    const Inputs& inputs = forward ? r.forwards[index(lane)] : r.backwards[index(lane)];
    const int stage = stage_of(rank, lane);
    Candidate out{.pass = {pass, lane, static_cast<int>(inputs.used)}, .arrival = inputs.next()};
    if (out.arrival == kNever) return out;
    const std::vector<Duration>& due = forward ? policy_.forward_due : policy_.backward_due;
    out.due = policy_.period * out.pass.microbatch + due[index(stage)];
    out.length = duration_of(pass, costs_.of(stage, out.pass.microbatch));
    return out;
  }

  void decide(Time now, int rank) {
    Rank& r = ranks_[index(rank)];
    const Pass backward = policy_.split ? Pass::kBackwardInput : Pass::kBackward;
    const bool urgent =
        policy_.most_deferred > 0 && index(policy_.most_deferred) <= r.deferred.size();
    Candidate ready;
    Candidate coming;
    const auto offer = [&](const Candidate& c) {
      if (c.arrival == kNever) return;
      Candidate& best = c.arrival <= now ? ready : coming;
      const bool better = c.arrival <= now ? c.due < best.due : c.arrival < best.arrival;
      if (best.arrival == kNever || better) best = c;
    };
    for (int lane = 0; lane < out_.lanes(); ++lane) {
      offer(candidate(rank, lane, backward));
      if (has_room(r, policy_.live_limit[index(rank)], lane)) {
        offer(candidate(rank, lane, Pass::kForward));
      }
    }
    const bool waits = ready.arrival != kNever && coming.arrival != kNever &&
                       coming.due < ready.due &&
                       coming.arrival <= now + part(ready.length, policy_.patience);
    if (urgent || ready.arrival == kNever || waits) {
      if (!r.deferred.empty() && (urgent || fits(now, rank, coming.arrival))) {
        const ChunkPass pass = r.deferred.front();
        r.deferred.pop();
        start(now, rank, pass);
      } else if (coming.arrival != kNever) {
        wake(coming.arrival, rank);
      }
      return;
    }
    start(now, rank, ready.pass);
  }

  bool fits(Time now, int rank, Time coming) const {
    const ChunkPass& pass = ranks_[index(rank)].deferred.front();
    const Duration takes = costs_.of(stage_of(rank, pass.lane), pass.microbatch).backward_weight;
    return coming == kNever || now + part(takes, policy_.weight_fit) <= coming;
  }

  void start(Time now, int rank, const ChunkPass& pass) {
    Rank& r = ranks_[index(rank)];
    const int stage = stage_of(rank, pass.lane);
    const Time end = now + duration_of(pass.pass, costs_.of(stage, pass.microbatch));
    r.free = end;
    out_.ranks[index(rank)].push_back({pass});
    wake(end, rank);
    if (pass.pass == Pass::kBackwardWeight) return;
    --r.left;
    if (pass.pass == Pass::kForward) {
      ++r.forwards[index(pass.lane)].used;
      ++r.all_live;
      const bool last = index(stage) + 1 == holders_.size();
      if (last) {
        r.backwards[index(pass.lane)].arrival.push_back(end);
      } else {
        send(rank, end, holders_[index(stage + 1)], &Rank::forwards);
      }
      return;
    }
    ++r.backwards[index(pass.lane)].used;
    --r.all_live;
    if (pass.pass == Pass::kBackwardInput) {
      r.deferred.push({Pass::kBackwardWeight, pass.lane, pass.microbatch});
    }
    if (stage > 0) send(rank, end, holders_[index(stage - 1)], &Rank::backwards);
  }

  void send(int from, Time end, const StageHolder& to, std::vector<Inputs> Rank::*direction) {
    Time arrival = end;
    if (from != to.rank) {
      Time& free = link_free_[index(from) * ranks_.size() + index(to.rank)];
      free = std::max(free, end) + costs_.transfer_time();
      arrival = free + costs_.transfer_latency();
    }
    (ranks_[index(to.rank)].*direction)[index(to.lane)].arrival.push_back(arrival);
    wake(arrival, to.rank);
  }

  const CostTable& costs_;
  const ListPolicy& policy_;
  std::vector<StageHolder> holders_;  // [stage]
  int microbatches_;
  std::vector<Rank> ranks_;
  std::vector<Time> link_free_;       // [from][to]
  using Wake = std::pair<Time, int>;  // a rank looks for work
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> wakes_;
  Schedule out_;
};

}  // namespace

Schedule make_list_schedule(const Schedule& placement, const CostTable& costs,
                            const ListPolicy& policy) {
  return ListScheduler(placement, costs, policy).make();
}

}  // namespace pipecast
