#include "sim/network/transfers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "sim/network/coflow.hpp"
#include "sim/network/shared_links.hpp"

namespace pipecast {

namespace {

// Limits of what a plan may ask for: far beyond any machine, and such that no sum or quotient of
// them leaves the range of its type.
constexpr double kLatest = 1e9;         // seconds, about 30 years
constexpr double kMostBytes = 9e18;     // of all flows on all links, below 2^63
constexpr double kSlowestLink = 1;      // bytes a second
constexpr double kFastestLink = 1e18;   // bytes a second
constexpr double kLargestWeight = 1e6;  // and one over it is the least
constexpr std::uint64_t kMostSteps = 400'000'000;
constexpr std::size_t kCycleShown = 8;  // flows in a message
constexpr std::uint32_t kUnset = std::numeric_limits<std::uint32_t>::max();

void check_link(const Link& link) {
  const double rate = link.bandwidth.count();
  require(rate == 0 || (rate >= kSlowestLink && rate <= kFastestLink),
          "link '{}': bandwidth of {} bytes/s is neither 0 (failed) nor within {} and {}", link.id,
          rate, kSlowestLink, kFastestLink);
}

void check_flow(const TransferPlan& plan, const Flow& flow) {
  require(flow.bytes.count() >= 0, "flow '{}': {} bytes is negative", flow.id, flow.bytes.count());
  require(flow.start_s >= 0 && flow.start_s <= kLatest,
          "flow '{}': start of {} s is not within 0 and {} s", flow.id, flow.start_s, kLatest);
  require(flow.latency_s >= 0 && flow.latency_s <= kLatest,
          "flow '{}': latency of {} s is not within 0 and {} s", flow.id, flow.latency_s, kLatest);
  require(flow.weight >= 1 / kLargestWeight && flow.weight <= kLargestWeight,
          "flow '{}': weight of {} is not within {} and {}", flow.id, flow.weight,
          1 / kLargestWeight, kLargestWeight);
  require(!flow.group || *flow.group < plan.groups.size(), "flow '{}': the plan has no group {}",
          flow.id, flow.group.value_or(0));
  for (const FlowIndex earlier : flow.after) {
    require(earlier < plan.flows.size(), "flow '{}': waits for flow {}, the plan has {}", flow.id,
            earlier, plan.flows.size());
  }
  require(!flow.links.empty() || flow.bytes.count() == 0,
          "flow '{}': {} bytes, but no link to cross", flow.id, flow.bytes.count());
  for (const LinkIndex l : flow.links) {
    require(l < plan.links.size(), "flow '{}': crosses link {}, the plan has {}", flow.id, l,
            plan.links.size());
    require<ImpossiblePlan>(flow.bytes.count() == 0 || plan.links[l].bandwidth.count() > 0,
                            "flow '{}' cannot complete: link '{}' has failed (bandwidth 0)",
                            flow.id, plan.links[l].id);
  }
}

/// @returns the bytes on every link
std::vector<std::int64_t> check_plan(const TransferPlan& plan) {
  // Room for kUnset.
  require(plan.flows.size() < kUnset && plan.links.size() < kUnset, "more than {} flows or links",
          kUnset - 1);
  for (const Link& link : plan.links) check_link(link);
  for (const Flow& flow : plan.flows) check_flow(plan, flow);
  std::vector<FlowIndex> last_user(plan.links.size(), kUnset);
  std::vector<std::int64_t> bytes(plan.links.size());
  double total = 0;
  for (FlowIndex f = 0; f < plan.flows.size(); ++f) {
    const Flow& flow = plan.flows[f];
    total += static_cast<double>(flow.bytes.count()) * static_cast<double>(flow.links.size());
    require(total <= kMostBytes, "flow '{}': all flows together have more than {} bytes", flow.id,
            kMostBytes);
    for (const LinkIndex l : flow.links) {
      require(last_user[l] != f, "flow '{}': crosses link '{}' twice", flow.id, plan.links[l].id);
      last_user[l] = f;
      bytes[l] += flow.bytes.count();
    }
  }
  return bytes;
}

/// "'a' waits for 'b', which waits for 'a'".
[[noreturn]] void refuse_cycle(const TransferPlan& plan, const std::vector<std::uint32_t>& depth) {
  // Every flow without a depth waits for another one: going from one to the next comes back.
  std::vector<std::uint32_t> seen(plan.flows.size(), kUnset);
  std::vector<FlowIndex> way;
  auto at = static_cast<FlowIndex>(std::find(depth.begin(), depth.end(), kUnset) - depth.begin());
  while (seen[at] == kUnset) {
    seen[at] = static_cast<std::uint32_t>(way.size());
    way.push_back(at);
    const std::vector<FlowIndex>& after = plan.flows[at].after;
    at = *std::find_if(after.begin(), after.end(),
                       [&](FlowIndex earlier) { return depth[earlier] == kUnset; });
  }
  way.erase(way.begin(), way.begin() + static_cast<std::ptrdiff_t>(seen[at]));
  std::string text = fmt::format("flow '{}'", plan.flows[at].id);
  for (std::size_t i = 1; i < std::min(way.size(), kCycleShown); ++i) {
    text += fmt::format(" waits for '{}', which", plan.flows[way[i]].id);
  }
  if (way.size() > kCycleShown) {
    text += fmt::format(" waits for {} more, the last of which", way.size() - kCycleShown);
  }
  throw ImpossiblePlan(
      fmt::format("{} waits for '{}': none of them can start", text, plan.flows[at].id));
}

/// The length of the longest chain of flows that each flow waits for.
std::vector<std::uint32_t> depths(const TransferPlan& plan) {
  std::vector<std::uint32_t> waits(plan.flows.size());
  std::vector<std::vector<FlowIndex>> followers(plan.flows.size());
  std::vector<std::uint32_t> depth(plan.flows.size(), kUnset);
  std::vector<FlowIndex> order;
  for (FlowIndex f = 0; f < plan.flows.size(); ++f) {
    waits[f] = static_cast<std::uint32_t>(plan.flows[f].after.size());
    for (const FlowIndex earlier : plan.flows[f].after) followers[earlier].push_back(f);
    if (waits[f] == 0) order.push_back(f);
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::uint32_t longest = 0;
    for (const FlowIndex earlier : plan.flows[order[i]].after) {
      longest = std::max(longest, depth[earlier] + 1);
    }
    depth[order[i]] = longest;
    for (const FlowIndex later : followers[order[i]]) {
      if (--waits[later] == 0) order.push_back(later);
    }
  }
  if (order.size() < plan.flows.size()) refuse_cycle(plan, depth);
  return depth;
}

/// Numbers with a time each, the earliest first; equal times in the order of the numbers.
class Agenda {
 public:
  explicit Agenda(std::size_t size) : time_(size), place_(size, kUnset) {}

  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] std::uint32_t first() const { return heap_.front(); }
  [[nodiscard]] double first_time() const { return time_[heap_.front()]; }

  void set(std::uint32_t number, double time) {
    time_[number] = time;
    if (place_[number] == kUnset) {
      place_[number] = static_cast<std::uint32_t>(heap_.size());
      heap_.push_back(number);
    }
    lift(place_[number]);
    sink(place_[number]);
  }

  void remove_first() {
    place_[heap_.front()] = kUnset;
    const std::uint32_t last = heap_.back();
    heap_.pop_back();
    if (heap_.empty()) return;
    put(last, 0);
    sink(0);
  }

 private:
  [[nodiscard]] bool earlier(std::uint32_t a, std::uint32_t b) const {
    return time_[a] != time_[b] ? time_[a] < time_[b] : a < b;
  }
  void put(std::uint32_t number, std::uint32_t at) {
    heap_[at] = number;
    place_[number] = at;
  }
  void lift(std::uint32_t at) {
    const std::uint32_t number = heap_[at];
    while (at > 0 && earlier(number, heap_[(at - 1) / 2])) {
      put(heap_[(at - 1) / 2], at);
      at = (at - 1) / 2;
    }
    put(number, at);
  }
  void sink(std::uint32_t at) {
    const std::uint32_t number = heap_[at];
    const auto size = static_cast<std::uint32_t>(heap_.size());
    for (std::uint32_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && earlier(heap_[child + 1], heap_[child])) ++child;
      if (!earlier(heap_[child], number)) break;
      put(heap_[child], at);
      at = child;
    }
    put(number, at);
  }

  std::vector<double> time_;
  std::vector<std::uint32_t> heap_;
  std::vector<std::uint32_t> place_;
};

/// Plays the jobs of a plan. Each is waiting for others, then for its ready time, then running,
/// then complete:
///
///     while jobs have a time (ready or complete):
///       take the earliest; it takes its place on the links, or counts there with another weight,
///       or leaves them and releases others
///       before time goes on, share the links anew and renew the times of what changed
class Run {
 public:
  Run(const TransferPlan& plan, std::vector<TransferJob> jobs)
      : plan_(plan),
        jobs_(std::move(jobs)),
        links_(plan.links),
        agenda_(jobs_.size()),
        state_(jobs_.size()),
        job_of_activity_(jobs_.size()) {
    std::vector<std::uint32_t> job_of_flow(plan.flows.size());
    for (std::uint32_t j = 0; j < jobs_.size(); ++j) {
      for (const FlowIndex f : jobs_[j].flows) job_of_flow[f] = j;
    }
    for (std::uint32_t j = 0; j < jobs_.size(); ++j) {
      for (const FlowIndex f : jobs_[j].flows) {
        for (const FlowIndex earlier : plan.flows[f].after) {
          state_[job_of_flow[earlier]].followers.push_back(j);
          ++state_[j].waits;
        }
      }
    }
  }

  void play() {
    for (std::uint32_t j = 0; j < jobs_.size(); ++j) {
      if (state_[j].waits == 0) arm(j, 0);
    }
    while (!agenda_.empty()) play_instant();
  }

  [[nodiscard]] double completion_s(std::size_t job) const { return state_[job].completion_s; }

  /// Every job complete, nothing on the links, and on each link the bytes of the plan.
  void prove_conservation(const std::vector<std::int64_t>& bytes) const {
    for (const State& state : state_) PIPECAST_ASSERT(state.phase == Phase::kComplete);
    PIPECAST_ASSERT(links_.running() == 0);
    for (LinkIndex l = 0; l < bytes.size(); ++l) {
      const auto sent = static_cast<double>(bytes[l]);
      PIPECAST_ASSERT(std::abs(links_.carried(l) - sent) <= kRounding * sent + unresolved_);
    }
  }

 private:
  enum class Phase : std::uint8_t { kWaiting, kReady, kRunning, kComplete };
  struct State {
    std::vector<std::uint32_t> followers;
    std::uint32_t waits = 0;
    Phase phase = Phase::kWaiting;
    SharedLinks::Activity activity = 0;
    double most_rate = 0;
    double completion_s = 0;
  };

  /// Of sums over many rates.
  static constexpr double kRounding = 1e-9;
  /// Times this near to each other, relative to themselves, are one instant: flows that end at
  /// once do so up to rounding.
  static constexpr double kOneInstant = 1e-13;

  void arm(std::uint32_t j, double arrived_s) {
    const JobTiming timing = job_timing(plan_, jobs_[j], arrived_s);
    state_[j].phase = Phase::kReady;
    state_[j].most_rate = timing.most_rate;
    agenda_.set(j, timing.ready_s);
  }

  void play_instant() {
    const double end_s = agenda_.first_time() * (1 + kOneInstant);
    while (!agenda_.empty() && agenda_.first_time() <= end_s) {
      const std::uint32_t j = agenda_.first();
      last_s_ = agenda_.first_time();
      agenda_.remove_first();
      if (state_[j].phase == Phase::kReady && !jobs_[j].ports.empty()) {
        start(j);
      } else if (state_[j].phase == Phase::kRunning &&
                 last_s_ < links_.completion_s(state_[j].activity)) {
        links_.refresh(state_[j].activity);
      } else {
        complete(j);
      }
    }
    links_.settle(last_s_);
    require(links_.steps() <= kMostSteps,
            "sharing the links of {} flows takes more than {} steps (half a minute) and is not at "
            "its end: flows that are all tied together by their links are too many; put them into "
            "groups and use the coflow mode",
            plan_.flows.size(), kMostSteps);
    for (const SharedLinks::Activity a : links_.changed()) {
      agenda_.set(job_of_activity_[a], std::min(links_.completion_s(a), links_.fade_s(a)));
    }
  }

  void start(std::uint32_t j) {
    const TransferJob& job = jobs_[j];
    const SharedLinks::Activity a = links_.start(last_s_, {.uses = job.ports,
                                                           .work = job.work,
                                                           .weight = job.weight,
                                                           .most_rate = state_[j].most_rate,
                                                           .fades = job.fades});
    state_[j].phase = Phase::kRunning;
    state_[j].activity = a;
    job_of_activity_[a] = j;
  }

  void complete(std::uint32_t j) {
    State& state = state_[j];
    if (state.phase == Phase::kRunning) {
      // What a link carries while the time does not move in double precision.
      constexpr double kSteps = 4;
      unresolved_ +=
          kSteps * std::numeric_limits<double>::epsilon() * last_s_ * links_.rate(state.activity);
      links_.finish(last_s_, state.activity);
    }
    state.phase = Phase::kComplete;
    state.completion_s = last_s_;
    for (const std::uint32_t later : state.followers) {
      if (--state_[later].waits == 0) arm(later, last_s_);
    }
  }

  const TransferPlan& plan_;
  std::vector<TransferJob> jobs_;
  SharedLinks links_;
  Agenda agenda_;
  std::vector<State> state_;
  std::vector<std::uint32_t> job_of_activity_;
  double last_s_ = 0;
  double unresolved_ = 0;  // bytes on a link that double precision cannot tell from none
};

}  // namespace

Completion complete_transfers(const TransferPlan& plan, const TransferOptions& options) {
  const std::vector<std::int64_t> bytes = check_plan(plan);
  const std::vector<std::uint32_t> depth = depths(plan);
  const std::vector<TransferJob> jobs = options.mode == NetworkMode::kFlow
                                            ? jobs_of_flows(plan)
                                            : jobs_of_groups(plan, depth, options.arbitration);
  Run run(plan, jobs);
  run.play();
  run.prove_conservation(bytes);

  Completion out;
  out.flow_s.resize(plan.flows.size());
  out.group_s.resize(plan.groups.size());
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    for (const FlowIndex f : jobs[j].flows) out.flow_s[f] = run.completion_s(j);
  }
  for (std::size_t f = 0; f < plan.flows.size(); ++f) {
    out.makespan_s = std::max(out.makespan_s, out.flow_s[f]);
    if (!plan.flows[f].group) continue;
    double& group_s = out.group_s[*plan.flows[f].group];
    group_s = std::max(group_s, out.flow_s[f]);
  }
  for (std::size_t l = 0; l < plan.links.size(); ++l) {
    const double could_carry = plan.links[l].bandwidth.count() * out.makespan_s;
    const double sent = static_cast<double>(bytes[l]);
    out.links.push_back(
        {.bytes = Bytes(bytes[l]), .busy_fraction = could_carry > 0 ? sent / could_carry : 0});
  }
  return out;
}

}  // namespace pipecast
