#include <catch2/catch.hpp>
#include <limits>
#include <numeric>

#include "model/schedules/timing.hpp"
#include "scenarios.hpp"
#include "sim/cluster/step_simulation.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

struct Case {
  const char* scenario;
  const char* schedule;
  int microbatches;
};

constexpr Case kTinyDualpipe{"tiny-moe-h100", "dualpipe", 16};
constexpr Case kTiny1f1b{"tiny-moe-h100", "1f1b", 16};
constexpr Case kDeepseekDualpipe{"deepseek-v3-h800", "dualpipe", 32};
constexpr Case kDeepseek1f1b{"deepseek-v3-h800", "1f1b", 24};

Duration sum(const std::array<Duration, kTimeCategories>& breakdown) {
  return std::accumulate(breakdown.begin(), breakdown.end(), Duration());
}

void require_equal(const StepTimes& a, const StepTimes& b) {
  REQUIRE(a.time == b.time);
  REQUIRE(a.ranks.size() == b.ranks.size());
  for (std::size_t rank = 0; rank < a.ranks.size(); ++rank) {
    CAPTURE(rank);
    REQUIRE(a.ranks[rank].breakdown == b.ranks[rank].breakdown);
    const OverlapTimes& x = a.ranks[rank].overlap;
    const OverlapTimes& y = b.ranks[rank].overlap;
    REQUIRE(x.communication == y.communication);
    REQUIRE(x.hidden == y.hidden);
    REQUIRE(x.exposed == y.exposed);
    REQUIRE(x.waiting_for_peers == y.waiting_for_peers);
  }
  REQUIRE(a.critical_path.size() == b.critical_path.size());
  for (std::size_t i = 0; i < a.critical_path.size(); ++i) {
    REQUIRE(a.critical_path[i].operation == b.critical_path[i].operation);
    REQUIRE(a.critical_path[i].time == b.critical_path[i].time);
  }
}

/// Links that take no time at all.
void make_transfers_free(ClusterSpec& cluster) {
  const Bandwidth boundless(std::numeric_limits<double>::infinity());
  cluster.nic.bandwidth = cluster.pcie.bandwidth = cluster.nvlink.bandwidth = boundless;
  cluster.nic.latency = cluster.nvlink.latency = cluster.fabric.spine_latency = Duration();
}

/// What the chunk programs of a scenario take, for the schedule's own timing.
ScheduleCosts costs_of(const Scenario& s) {
  ChunkBuilder builder(s, s.plan, routing_of(s));
  ScheduleCosts costs;
  for (int stage = 0; stage < s.plan.pp; ++stage) {
    costs.passes.push_back({.forward = builder.single(Pass::kForward, stage).alone,
                            .backward = builder.single(Pass::kBackward, stage).alone,
                            .backward_input = builder.single(Pass::kBackwardInput, stage).alone,
                            .backward_weight = builder.single(Pass::kBackwardWeight, stage).alone,
                            .overlapped = builder.overlapped(stage, stage).alone});
  }
  return costs;
}

}  // namespace

TEST_CASE("with balanced routing one replica stands for all, to the picosecond", "[step]") {
  const Case c = GENERATE(kTinyDualpipe, kTiny1f1b, kDeepseekDualpipe, kDeepseek1f1b);
  CAPTURE(c.scenario, c.schedule);
  const Scenario s = punctual(shipped(c.scenario));
  const StepTimes full = simulate(s, c.schedule, c.microbatches, SimulationMode::kFull);
  const StepTimes folded = simulate(s, c.schedule, c.microbatches, SimulationMode::kFolded);
  require_equal(full, folded);
  REQUIRE(full.simulated_gpus == s.cluster.gpus());
  REQUIRE(folded.simulated_gpus == s.plan.pp);
  REQUIRE(full.nic.bytes == folded.nic.bytes * s.data_parallel());
  REQUIRE(full.nvlink.bytes == folded.nvlink.bytes * s.data_parallel());
  REQUIRE(full.nic.busy_fraction == Approx(folded.nic.busy_fraction));
}

TEST_CASE("a rank's times sum to the step's, to the picosecond", "[step]") {
  const Case c = GENERATE(kTinyDualpipe, kTiny1f1b, kDeepseekDualpipe, kDeepseek1f1b);
  CAPTURE(c.scenario, c.schedule);
  const StepTimes times = simulate(punctual(shipped(c.scenario)), c.schedule, c.microbatches);
  for (const RankTimes& rank : times.ranks) {
    REQUIRE(sum(rank.breakdown) == times.time);
    for (const Duration share : rank.breakdown) REQUIRE(share >= Duration());
    REQUIRE(rank.overlap.hidden + rank.overlap.exposed == rank.overlap.communication);
    // Equal loads reach every all-to-all together.
    REQUIRE(rank.overlap.waiting_for_peers == Duration());
  }
}

TEST_CASE("only a bidirectional schedule overlaps, only a split backward has weights of its own",
          "[step]") {
  const auto time_in = [](const StepTimes& times, TimeCategory category) {
    Duration all;
    for (const RankTimes& rank : times.ranks)
      all += rank.breakdown[static_cast<std::size_t>(category)];
    return all;
  };
  const StepTimes one = simulate(tiny(), "1f1b", 16);
  REQUIRE(time_in(one, TimeCategory::kOverlapped) == Duration());
  REQUIRE(time_in(one, TimeCategory::kBackwardWeight) == Duration());
  REQUIRE(time_in(one, TimeCategory::kBackwardInput) == Duration());
  const StepTimes dual = simulate(tiny(), "dualpipe", 16);
  REQUIRE(time_in(dual, TimeCategory::kOverlapped) > Duration());
  REQUIRE(time_in(dual, TimeCategory::kBackwardWeight) > Duration());
}

TEST_CASE("the critical path sums to the step's time, longest share first", "[step]") {
  const Case c = GENERATE(kTinyDualpipe, kTiny1f1b, kDeepseekDualpipe, kDeepseek1f1b);
  CAPTURE(c.scenario, c.schedule);
  const StepTimes times = simulate(shipped(c.scenario), c.schedule, c.microbatches);
  Duration all;
  for (std::size_t i = 0; i < times.critical_path.size(); ++i) {
    all += times.critical_path[i].time;
    if (i > 0) REQUIRE(times.critical_path[i].time <= times.critical_path[i - 1].time);
  }
  REQUIRE(all == times.time);
}

TEST_CASE("the same step twice is the same to the last bit", "[step]") {
  const SimulationMode mode = GENERATE(SimulationMode::kFull, SimulationMode::kFolded);
  const StepTimes a = simulate(tiny(), "dualpipe", 16, mode);
  const StepTimes b = simulate(tiny(), "dualpipe", 16, mode);
  require_equal(a, b);
  REQUIRE(a.events == b.events);
}

TEST_CASE("with free transfers 1F1B takes what its schedule's timing says, and the optimizer",
          "[step]") {
  Scenario s = punctual(tiny());
  make_transfers_free(s.cluster);
  const int microbatches = GENERATE(1, 4, 9);
  const Schedule schedule = make_schedule("1f1b", s.plan.pp, microbatches);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  const StepTimes times = simulate_step(s, s.plan, plan, schedule, {});

  const ScheduleTiming timing = time_schedule(schedule, costs_of(s));
  // The collectives are free as well: every rank updates when the last has its gradients.
  Duration update;
  for (const OptimizerPlan& optimizer : plan.optimizer) {
    REQUIRE(optimizer.reduce_scatter == Duration());
    update = std::max(update, optimizer.update);
  }
  REQUIRE(times.time == (timing.makespan - Time()) + update);
}

TEST_CASE("with free transfers and equal stages DualPipe takes what its timing says", "[step]") {
  Scenario s = punctual(tiny());
  make_transfers_free(s.cluster);
  s.plan.pipeline_layout.assign(4, {LayerKind::kMoe, LayerKind::kMoe});
  const int microbatches = GENERATE(8, 10, 24);
  const Schedule schedule = make_schedule("dualpipe", 4, microbatches);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  const StepTimes times = simulate_step(s, s.plan, plan, schedule, {});

  const ScheduleTiming timing = time_schedule(schedule, costs_of(s));
  REQUIRE(times.time == (timing.makespan - Time()) + plan.optimizer.front().update);
  for (std::size_t rank = 0; rank < times.ranks.size(); ++rank) {
    const auto& breakdown = times.ranks[rank].breakdown;
    REQUIRE(breakdown[static_cast<std::size_t>(TimeCategory::kCommunicationExposed)] == Duration());
    REQUIRE(breakdown[static_cast<std::size_t>(TimeCategory::kBubble)] == timing.bubble[rank]);
  }
}

TEST_CASE("more micro-batches are never faster", "[step][property]") {
  const Scenario s = tiny();
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  Duration before;
  for (int microbatches = 8; microbatches <= 24; microbatches += 2) {
    CAPTURE(kind, microbatches);
    const Duration time = simulate(s, kind, microbatches).time;
    REQUIRE(time > before);
    before = time;
  }
}

TEST_CASE("a slower link never makes a step faster", "[step][property]") {
  const auto* const slower =
      GENERATE("cluster.nic.bandwidth=100Gb/s", "cluster.nvlink.bandwidth=100GB/s",
               "cluster.nic.latency=50us", "cluster.nvlink.latency=50us");
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  CAPTURE(slower, kind);
  REQUIRE(simulate(tiny({slower}), kind, 16).time >= simulate(tiny(), kind, 16).time);
}

TEST_CASE("without expert parallelism there is no communication inside chunks", "[step]") {
  const StepTimes times = simulate(tiny({"plan.ep=1"}), "dualpipe", 16, SimulationMode::kFull);
  for (const RankTimes& rank : times.ranks) {
    REQUIRE(rank.overlap.communication == Duration());
    REQUIRE(rank.overlap.exposed == Duration());
  }
}

TEST_CASE("ranks that share a node send their messages over NVLink", "[step]") {
  // Two pipeline ranks of four GPUs in every node; experts are not spread. What the NIC carries is
  // the boundary between the nodes and the reduction across them.
  Scenario s = tiny({"plan.ep=1"});
  s.cluster.nodes = 2;
  const StepTimes times = simulate(s, "1f1b", 8);
  const Schedule schedule = make_schedule("1f1b", 4, 8);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  Bytes reduced_nic;
  Bytes reduced_nvlink;
  for (const OptimizerPlan& optimizer : plan.optimizer) {
    reduced_nic += optimizer.nic_bytes;
    reduced_nvlink += optimizer.nvlink_bytes;
  }
  // Ranks 0|1 and 2|3 share nodes: two boundaries over NVLink, one over the NIC; eight activations
  // and eight gradients cross each.
  REQUIRE(times.nic.bytes - reduced_nic == 16 * plan.message);
  REQUIRE(times.nvlink.bytes - reduced_nvlink == 2 * 16 * plan.message);
}

TEST_CASE("a trace shows every chunk and the optimizer of every rank, in order", "[step]") {
  StepTrace trace;
  const Scenario s = tiny();
  const StepTimes times = simulate(s, "dualpipe", 16, SimulationMode::kFull, &trace);
  const Schedule schedule = make_schedule("dualpipe", s.plan.pp, 16);
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    std::vector<std::string> expected;
    for (const Step& step : schedule.ranks[static_cast<std::size_t>(rank)])
      expected.push_back(to_text(step));
    expected.insert(expected.end(), {"reduce-scatter", "AdamW", "all-gather"});
    std::vector<std::string> names;
    Time before;
    for (const ChunkSpan& span : trace.chunks) {
      if (span.pipeline_rank != rank) continue;
      names.push_back(span.name);
      REQUIRE(span.start >= before);
      before = span.end;
    }
    REQUIRE(names == expected);
    REQUIRE(before - Time() <= times.time);
  }
}

TEST_CASE("a schedule that deadlocks names the rank and the pass that wait", "[step]") {
  Scenario s = tiny();
  s.plan.pp = 2;
  s.plan.pipeline_layout.assign(2, {LayerKind::kMoe});
  // Each rank wants the other's result first: a backward before the forward it belongs to.
  Schedule schedule;
  schedule.ranks = {{{{Pass::kBackward, 0, 0}}, {{Pass::kForward, 0, 0}}},
                    {{{Pass::kForward, 0, 0}}, {{Pass::kBackward, 0, 0}}}};
  schedule.stage_of = {{0, 1}};
  schedule.microbatches = {1};
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  REQUIRE_THROWS_AS(simulate_step(s, s.plan, plan, schedule, {.mode = SimulationMode::kFolded}),
                    ImpossiblePlan);
  REQUIRE_THROWS_WITH(simulate_step(s, s.plan, plan, schedule, {.mode = SimulationMode::kFolded}),
                      "the schedule deadlocks: pipeline rank 0 waits forever before B0.0");
}
