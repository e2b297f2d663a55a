#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"
#include "model/schedules/list_scheduler.hpp"
#include "model/schedules/live_chunks.hpp"
#include "model/schedules/local_search.hpp"
#include "model/schedules/makespan_bound.hpp"
#include "model/schedules/schedule.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {
namespace {

constexpr std::string_view kName = "searched";
/// Schedules that each of the two searches times ...
constexpr std::int64_t kTimedSchedules = 300;
/// ... but more of short ones and fewer of long ones, counted in steps: the most are about half a
/// second's work.
constexpr std::int64_t kFewestSteps = 50'000;
constexpr std::int64_t kMostSteps = 4'000'000;
/// Of the random policies; any number does.
constexpr std::uint64_t kSeed = 1;

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// Without costs all passes are equal, and a full backward or a pair is the sum of its parts.
ScheduleCosts known_costs(ScheduleCosts costs) {
  if (costs.passes.empty()) costs.passes = {kUnitDurations};
  return costs;
}

class Search {
 public:
  Search(Schedule placement, const ScheduleCosts& costs, int limit)
      : placement_(std::move(placement)),
        costs_(costs),
        table_(costs, placement_.stages(), placement_.microbatches.front()),
        limit_(limit),
        random_(kSeed, kName) {
    const std::int64_t chunks = std::int64_t{placement_.stages()} * placement_.microbatches.front();
    budget_ = std::clamp(kTimedSchedules * 3 * chunks, kFewestSteps, kMostSteps);  // F, Bi and W
    mean_durations();
  }

  Schedule run(const PipelineShape& shape) {
    try_policies();
    improve_policy();
    offer_registered(shape);
    if (!at_goal()) {
      offer(improve_locally(
          *best_, costs_, {.live_chunks = limit_, .goal = goal_, .timed_steps = budget_}, random_));
    }
    Schedule joined = join_backwards(*best_, costs_);
    if (time_schedule(joined, costs_).makespan <= makespan_) best_ = std::move(joined);
    return std::move(*best_);
  }

 private:
  // When passes are due, as in ListPolicy.
  struct Order {
    Duration period{};
    std::vector<Duration> forward_due{};   // [stage]
    std::vector<Duration> backward_due{};  // [stage]
  };

  // Chains through the stages at mean durations, and the work of a micro-batch on a rank.
  void mean_durations() {
    const int stages = placement_.stages();
    const auto holders = holders_of_stages(placement_).front();
    const int microbatches = placement_.microbatches.front();
    std::vector<Duration> work(placement_.stage_of.front().size());
    std::vector<Duration> forward;
    for (int s = 0; s < stages; ++s) {
      std::int64_t f = 0;
      std::int64_t b = 0;
      std::int64_t w = 0;
      for (int i = 0; i < microbatches; ++i) {
        const PassDurations& d = table_.of(s, i);
        f += d.forward.count();
        b += d.backward_input.count();
        w += d.backward_weight.count();
      }
      forward.emplace_back(f / microbatches);
      backward_.emplace_back(b / microbatches);
      work[index(holders[index(s)].rank)] += Duration((f + b + w) / microbatches);
    }
    period_ = *std::max_element(work.begin(), work.end());
    const auto hop = [&](int s) {
      return table_.hop(holders[index(s)].rank, holders[index(s + 1)].rank);
    };
    forward_head_.assign(index(stages), Duration{});
    backward_head_.assign(index(stages), Duration{});
    for (int s = 0; s + 1 < stages; ++s) {
      forward_head_[index(s + 1)] = forward_head_[index(s)] + forward[index(s)] + hop(s);
    }
    backward_head_.back() = forward_head_.back() + forward.back();
    for (int s = stages - 2; s >= 0; --s) {
      backward_head_[index(s)] = backward_head_[index(s + 1)] + backward_[index(s + 1)] + hop(s);
    }
  }

  // Chunks of each rank: `per_rank` for every rank from here to the last, within the limit.
  std::vector<int> limits(double per_rank, int more) const {
    const int ranks = static_cast<int>(placement_.stage_of.front().size());
    std::vector<int> out;
    for (int rank = 0; rank < ranks; ++rank) {
      const int wanted = static_cast<int>(std::ceil(per_rank * (ranks - rank))) + more;
      out.push_back(std::clamp(wanted, placement_.lanes(), limit_));
    }
    return out;
  }

  void try_policies() {
    const std::size_t stages = forward_head_.size();
    std::vector<Order> orders;
    const std::vector<Duration> zero(stages);
    // Backwards before forwards, and the other way round.
    orders.push_back(
        {.forward_due = std::vector<Duration>(stages, Duration(1)), .backward_due = zero});
    orders.push_back(
        {.forward_due = zero, .backward_due = std::vector<Duration>(stages, Duration(1))});
    // As a micro-batch would pass an empty pipeline, one every period.
    orders.push_back(
        {.period = period_, .forward_due = forward_head_, .backward_due = backward_head_});
    // What is furthest along first, and last.
    orders.push_back(
        {.forward_due = negative(forward_head_), .backward_due = negative(backward_head_)});
    orders.push_back({.forward_due = forward_head_, .backward_due = backward_head_});
    std::vector<std::vector<int>> all_limits;
    for (const auto& [per_rank, more] : std::vector<std::pair<double, int>>{
             {0, limit_}, {1, 0}, {1.5, 0}, {2, -1}, {0, limit_ * 3 / 4}, {0, limit_ / 2}}) {
      std::vector<int> wanted = limits(per_rank, more);
      if (std::find(all_limits.begin(), all_limits.end(), wanted) == all_limits.end()) {
        all_limits.push_back(std::move(wanted));
      }
    }
    for (const std::vector<int>& live_limit : all_limits) {
      for (const bool split : {true, false}) {
        for (const double weight_fit : split ? std::vector{0.0, 1.0} : std::vector{0.0}) {
          ListPolicy policy{.split = split, .live_limit = live_limit, .weight_fit = weight_fit};
          try_orders(orders, policy);
        }
      }
    }
  }

  void try_orders(const std::vector<Order>& orders, ListPolicy policy) {
    const Duration pace = shortest_pace();
    for (const Duration& wanted : {Duration{}, pace, Duration(pace.count() * 9 / 8)}) {
      policy.pace = wanted;
      for (const Order& order : orders) {
        if (done_listing()) return;
        policy.period = order.period;
        policy.forward_due = order.forward_due;
        policy.backward_due = order.backward_due;
        offer(policy);
      }
    }
  }

  // At which micro-batches can enter for long: a rank has the work of one to do, and its chunks
  // live for their round trips.
  Duration shortest_pace() const {
    Duration out = period_;
    for (std::size_t rank = 0; rank < placement_.ranks.size(); ++rank) {
      Duration lives{};
      for (const std::vector<int>& stages : placement_.stage_of) {
        const std::size_t stage = index(stages[rank]);
        lives += backward_head_[stage] + backward_[stage] - forward_head_[stage];
      }
      out = std::max(out, Duration(ceil_div(lives.count(), limit_)));
    }
    return out;
  }

  static std::vector<Duration> negative(std::vector<Duration> values) {
    for (Duration& value : values) value = Duration{} - value;
    return values;
  }

  // Random changes to the best policy; what is not longer is the next to change.
  void improve_policy() {
    while (!done_listing()) {
      ListPolicy policy = policy_;
      do {
        change(policy);
      } while (random_.below(2) == 0);
      offer(policy);
    }
  }

  void change(ListPolicy& policy) {
    const std::size_t ranks = policy.live_limit.size();
    const auto nudge = [&](int& limit) {
      limit = std::clamp(limit + (random_.below(2) == 0 ? 1 : -1), placement_.lanes(), limit_);
    };
    const auto jitter = [&](std::vector<Duration>& due) {
      const double span = static_cast<double>(period_.count()) * 2 * (random_.uniform() - 0.5);
      due[random_.below(due.size())] += Duration(static_cast<std::int64_t>(span));
    };
    switch (random_.below(9)) {
      case 0:
        nudge(policy.live_limit[random_.below(ranks)]);
        break;
      case 1:
        for (int& limit : policy.live_limit) nudge(limit);
        break;
      case 2:
        policy.weight_fit = 0.25 * static_cast<double>(random_.below(5));
        break;
      case 3:
        policy.patience = 0.25 * static_cast<double>(random_.below(5));
        break;
      case 4:
        jitter(policy.forward_due);
        break;
      case 5:
        jitter(policy.backward_due);
        break;
      case 6:
        policy.most_deferred = static_cast<int>(random_.below(2 * ranks));
        break;
      case 7:
        policy.pace = Duration(static_cast<std::int64_t>(
            static_cast<double>(shortest_pace().count()) * (0.75 + 0.75 * random_.uniform())));
        break;
      default:
        policy.period = Duration(static_cast<std::int64_t>(static_cast<double>(period_.count()) *
                                                           1.5 * random_.uniform()));
        break;
    }
  }

  // Every registered order of the same placement that keeps the limit.
  void offer_registered(PipelineShape shape) {
    shape.virtual_stages = placement_.lanes();
    for (const std::string& name : Registry<ScheduleKind>::instance().names()) {
      if (name == kName) continue;
      try {
        Schedule made = Registry<ScheduleKind>::instance().find(name).make(shape);
        if (made.stage_of == placement_.stage_of && made.microbatches == placement_.microbatches &&
            has_backward(made) && keeps_limit(made)) {
          offer(std::move(made));
        }
      } catch (const ImpossiblePlan&) {  // not for this shape
      }
    }
  }

  bool keeps_limit(const Schedule& schedule) const {
    const std::vector<int> peaks = peak_live_activations(schedule);
    return std::all_of(peaks.begin(), peaks.end(), [&](int peak) { return peak <= limit_; });
  }

  bool done_listing() const { return at_goal() || (best_ && listed_ >= budget_); }
  bool at_goal() const { return best_ && makespan_ - Time{} <= goal_; }

  void offer(const ListPolicy& policy) {
    Schedule made = make_list_schedule(placement_, table_, policy);
    for (const std::vector<Step>& steps : made.ranks) {
      listed_ += static_cast<std::int64_t>(steps.size());
    }
    const Time makespan = time_schedule(made, costs_).makespan;
    if (best_ && makespan > makespan_) return;
    policy_ = policy;
    keep(std::move(made), makespan);
  }

  void offer(Schedule made) {
    const Time makespan = time_schedule(made, costs_).makespan;
    if (!best_ || makespan < makespan_) keep(std::move(made), makespan);
  }

  void keep(Schedule made, Time makespan) {
    if (!best_) goal_ = makespan_bound(made, costs_, limit_);
    makespan_ = makespan;
    best_ = std::move(made);
  }

  Schedule placement_;  // without steps
  const ScheduleCosts& costs_;
  CostTable table_;
  int limit_;
  Random random_;
  Duration period_{};                    // work of a micro-batch on the rank that has most
  std::vector<Duration> backward_;       // [stage]: of the input
  std::vector<Duration> forward_head_;   // [stage]
  std::vector<Duration> backward_head_;  // [stage]
  std::int64_t budget_ = 0;              // steps to time in either search
  std::int64_t listed_ = 0;              // steps of the list schedules so far
  std::optional<Schedule> best_;
  Time makespan_;
  Duration goal_;      // no schedule without pairs is shorter
  ListPolicy policy_;  // of the best list schedule
};

Schedule make_searched(const PipelineShape& shape);

const ScheduleKind kKind{
    .make = make_searched,
    .description =
        "F, Bi and W ordered for given durations and an activation limit; any ranks and "
        "micro-batches, 1 or 2 (a V) virtual stages",
    .takes_virtual_stages = true,
    .searches = true};

/// A search among list schedules, refined by changes on the critical path; also takes every
/// registered kind of the same placement that keeps the limit, so that it loses to none.
Schedule make_searched(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "searched: {} micro-batches on {} ranks; it needs at least one of each",
                          shape.microbatches, shape.ranks);
  const int lanes = kKind.stages_per_rank(shape);
  require<ImpossiblePlan>(lanes == 1 || lanes == 2,
                          "searched: {} virtual stages; it places 1, or 2 in a V", lanes);
  require<ImpossiblePlan>(shape.activation_limit == 0 || shape.activation_limit >= lanes,
                          "searched: at most {} live chunks on a rank; {} virtual stages need at "
                          "least {}",
                          shape.activation_limit, lanes, lanes);
  Schedule placement;
  placement.ranks.resize(index(shape.ranks));
  placement.stage_of = lanes == 1 ? stages_in_line(shape.ranks) : stages_in_v(shape.ranks);
  placement.microbatches = {shape.microbatches};
  const int all = shape.microbatches * lanes;
  const int limit = shape.activation_limit == 0 ? shape.ranks * lanes : shape.activation_limit;
  const ScheduleCosts costs = known_costs(shape.costs);
  return Search(std::move(placement), costs, std::min(limit, all)).run(shape);
}

const Register<ScheduleKind> kEntry{kName, kKind};

}  // namespace
}  // namespace pipecast
