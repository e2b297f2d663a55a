#include "app/chunk/chunk_tuning.hpp"

#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#include "base/error.hpp"
#include "model/routing/balanced.hpp"

namespace pipecast {

namespace {

constexpr int kMostSms = 64;
constexpr int kSmStep = 2;

bool is_exchange(Phase phase) {
  return phase == Phase::kDispatchForward || phase == Phase::kCombineForward ||
         phase == Phase::kCombineBackward || phase == Phase::kDispatchBackward;
}

/// Phases of computation in their order, then those of communication: what the streams see.
PhaseOrder by_stream(PhaseOrder order) {
  std::stable_partition(order.begin(), order.end(), [](Phase p) { return !is_exchange(p); });
  return order;
}

/// Inserts each exchange behind what it needs; the backward's first needs nothing of its layer.
PhaseOrder with_exchanges(const std::array<Phase, 6>& computation) {
  PhaseOrder out{};
  std::size_t next = 0;
  out[next++] = Phase::kCombineBackward;
  for (const Phase phase : computation) {
    out[next++] = phase;
    for (int p = 0; p < kPhases; ++p) {
      const auto exchange = static_cast<Phase>(p);
      if (is_exchange(exchange) && needed_before(exchange) == phase) out[next++] = exchange;
    }
  }
  return out;
}

/// One simulation of the sweep.
struct Trial {
  TuningPoint point;
  std::exception_ptr failure{};
};

void simulate(Trial& trial, const Scenario& scenario, const ChunkShape& shape,
              const RoutingStatistics& routing, Duration peers_late) {
  try {
    PlanSpec plan = scenario.plan;
    plan.communication_sms = trial.point.communication_sms;
    plan.overlap.order = trial.point.order;
    ChunkKernels chunk(scenario, plan, routing, peers_late);
    for (const KernelSpan& span : play(chunk.launches(shape), chunk.table())) {
      trial.point.time = std::max(trial.point.time, span.end);
    }
  } catch (...) {
    trial.failure = std::current_exception();
  }
}

std::vector<Trial> trials_of(const Scenario& scenario, const std::vector<PhaseOrder>& orders) {
  std::vector<Trial> out;
  const auto add = [&](int sms, const PhaseOrder& order) {
    out.push_back({.point = {.communication_sms = sms, .order = order, .time = {}}});
  };
  add(scenario.plan.communication_sms, scenario.plan.overlap.order);
  const int half = scenario.cluster.gpu.sm_count / 2;
  for (int sms = 0; sms <= kMostSms && sms < half; sms += kSmStep) {
    for (const PhaseOrder& order : orders) add(sms, order);
  }
  return out;
}

}  // namespace

bool is_launch_order(const PhaseOrder& order) {
  std::array<std::size_t, kPhases> place{};
  std::array<bool, kPhases> seen{};
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto phase = static_cast<std::size_t>(order[i]);
    if (std::exchange(seen[phase], true)) return false;
    place[phase] = i;
  }
  return std::all_of(order.begin(), order.end(), [&](Phase phase) {
    const std::optional<Phase> needed = needed_before(phase);
    return !needed ||
           place[static_cast<std::size_t>(*needed)] < place[static_cast<std::size_t>(phase)];
  });
}

std::vector<PhaseOrder> launch_orders(const PhaseOrder& own) {
  std::vector<PhaseOrder> out = {own};
  std::array<Phase, 6> computation = {Phase::kAttentionForward, Phase::kMlpForward,
                                      Phase::kMlpBackward,      Phase::kAttentionBackward,
                                      Phase::kMlpWeight,        Phase::kAttentionWeight};
  std::sort(computation.begin(), computation.end());
  do {
    const PhaseOrder order = with_exchanges(computation);
    if (is_launch_order(order) && by_stream(order) != by_stream(own)) out.push_back(order);
  } while (std::next_permutation(computation.begin(), computation.end()));
  return out;
}

ChunkTuning tune_chunk(const Scenario& scenario, const ChunkShape& shape, Duration peers_late,
                       const std::function<void(double)>& progress) {
  require(scenario.plan.ep > 1,
          "--tune-sms: with plan.ep = 1 no tokens are exchanged, so that no SMs communicate");
  require(scenario.cluster.gpu.sm_count / 2 > kSmStep,
          "--tune-sms: a GPU of {} SMs cannot be divided", scenario.cluster.gpu.sm_count);
  const RoutingStatistics routing =
      balanced_routing(scenario.model, scenario.plan.ep, scenario.cluster.gpus_per_node);
  const bool pair = shape.kind == ChunkKind::kOverlapped;
  const std::vector<PhaseOrder> orders =
      pair ? launch_orders(scenario.plan.overlap.order) : std::vector{scenario.plan.overlap.order};
  std::vector<Trial> trials = trials_of(scenario, orders);
  std::atomic<std::size_t> done = 0;
  tbb::parallel_for(std::size_t{0}, trials.size(), [&](std::size_t i) {
    simulate(trials[i], scenario, shape, routing, peers_late);
    progress(static_cast<double>(++done) / static_cast<double>(trials.size()));
  });

  ChunkTuning out;
  out.orders = orders.size();
  for (const Trial& trial : trials) {
    if (trial.failure) std::rethrow_exception(trial.failure);
  }
  out.plan = trials.front().point;
  for (std::size_t first = 1; first < trials.size(); first += orders.size()) {
    const auto begin = trials.begin() + static_cast<std::ptrdiff_t>(first);
    const auto best = std::min_element(
        begin, begin + static_cast<std::ptrdiff_t>(orders.size()),
        [](const Trial& a, const Trial& b) { return a.point.time < b.point.time; });
    const bool engine = best->point.communication_sms == 0;
    if (engine) out.engine = best->point;
    if (!engine) out.curve.push_back(best->point);
  }
  out.best =
      *std::min_element(out.curve.begin(), out.curve.end(),
                        [](const TuningPoint& a, const TuningPoint& b) { return a.time < b.time; });
  return out;
}

}  // namespace pipecast
