#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>
#include <set>

#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"
#include "model/schedules/timing.hpp"
#include "playable_step.hpp"
#include "sim/cluster/step_memory.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

// A shape that every kind can run: dualpipe wants 2p micro-batches, interleaved and chimera a
// multiple of p.
constexpr int kMicrobatches = 16;

/// A plan of four ranks for this kind, laid out for as many stages as it has.
Scenario planned(const std::string& kind, std::vector<std::string> sets = {}) {
  sets.push_back("plan.schedule=" + kind);
  return punctual(tiny(sets));
}

/// The same with stages of equal layers.
Scenario with_equal_stages(Scenario s) {
  s.plan.pipeline_layout.assign(static_cast<std::size_t>(s.plan.pp * stages_per_rank(s.plan)),
                                {LayerKind::kMoe, LayerKind::kMoe});
  return s;
}

struct Planned {
  explicit Planned(Scenario s, SimulationMode how = SimulationMode::kFolded)
      : scenario(std::move(s)),
        schedule(choose_schedule(scenario.plan, kMicrobatches).schedule),
        mode(how),
        plan(plan_step(scenario, scenario.plan, schedule, routing_of(scenario), {.mode = how})) {}

  [[nodiscard]] StepTimes play() const {
    return simulate_step(scenario, scenario.plan, plan, schedule, {.mode = mode});
  }
  [[nodiscard]] ColumnTimes play_column() const {
    return simulate_column(scenario, scenario.plan, plan, schedule, {.mode = mode}, 0);
  }
  [[nodiscard]] std::size_t ranks() const { return schedule.ranks.size(); }

  Scenario scenario;
  Schedule schedule;
  SimulationMode mode;
  StepPlan plan;
};

std::vector<std::string> kinds() { return Registry<ScheduleKind>::instance().names(); }

Duration sum(const std::array<Duration, kTimeCategories>& breakdown) {
  return std::accumulate(breakdown.begin(), breakdown.end(), Duration());
}

/// Messages that a step has to send: for every two neighbouring stages on different ranks an
/// activation, and a gradient if it trains.
std::int64_t expected_messages(const Schedule& schedule) {
  const auto holders = holders_of_stages(schedule);
  std::int64_t out = 0;
  for (std::size_t path = 0; path < holders.size(); ++path) {
    for (std::size_t stage = 1; stage < holders[path].size(); ++stage) {
      if (holders[path][stage].rank != holders[path][stage - 1].rank) {
        out += schedule.microbatches[path] * (has_backward(schedule) ? 2 : 1);
      }
    }
  }
  return out;
}

/// Transfers of any size take no time; the latency stays.
void make_bandwidth_boundless(ClusterSpec& cluster) {
  const Bandwidth boundless(std::numeric_limits<double>::infinity());
  cluster.nic.bandwidth = cluster.pcie.bandwidth = cluster.nvlink.bandwidth = boundless;
}

/// What the chunk programs of a scenario with equal stages take.
PassDurations durations_of(const Scenario& s) {
  ChunkBuilder builder(s, s.plan, routing_of(s));
  return {.forward = builder.single(Pass::kForward, 0).alone,
          .backward = builder.single(Pass::kBackward, 0).alone,
          .backward_input = builder.single(Pass::kBackwardInput, 0).alone,
          .backward_weight = builder.single(Pass::kBackwardWeight, 0).alone,
          .overlapped = builder.overlapped(0, 0).alone};
}

}  // namespace

TEST_CASE("every kind of schedule runs, full and folded alike, and its times add up",
          "[step][every]") {
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const Scenario s = planned(kind);
    const StepTimes full = Planned(s, SimulationMode::kFull).play();
    const Planned one(s);
    const StepTimes folded = one.play();
    // With equal GPUs and balanced routing one replica stands for all, to the picosecond.
    REQUIRE(full.time == folded.time);
    for (std::size_t rank = 0; rank < one.ranks(); ++rank) {
      CAPTURE(rank);
      REQUIRE(full.ranks[rank].breakdown == folded.ranks[rank].breakdown);
      REQUIRE(sum(folded.ranks[rank].breakdown) == folded.time);
      for (const Duration share : folded.ranks[rank].breakdown) REQUIRE(share >= Duration());
      Duration work = one.plan.optimizer[rank].update;
      for (const PlannedStep& step : one.plan.steps[rank]) {
        work += one.plan.programs[static_cast<std::size_t>(step.program)].alone;
      }
      REQUIRE(folded.time >= work);
    }
    Duration path;
    for (const CriticalShare& share : folded.critical_path) path += share.time;
    REQUIRE(path == folded.time);
  }
}

TEST_CASE("every kind sends what its neighbouring stages on different ranks exchange",
          "[step][every]") {
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const Planned step(planned(kind));
    std::set<std::pair<int, int>> sent;
    std::set<std::pair<int, int>> needed;
    for (int rank = 0; rank < step.plan.ranks(); ++rank) {
      for (const PlannedStep& one : step.plan.steps[static_cast<std::size_t>(rank)]) {
        for (const int slot : one.needs) {
          if (slot >= 0) REQUIRE(needed.insert({rank, slot}).second);
        }
        for (const PlannedSend& send : one.sends) {
          if (send.rank < 0) continue;
          REQUIRE(send.rank != rank);
          REQUIRE(sent.insert({send.rank, send.slot}).second);
        }
      }
    }
    REQUIRE(sent == needed);
    const std::int64_t messages = expected_messages(step.schedule);
    REQUIRE(static_cast<std::int64_t>(sent.size()) == messages);
    // Pipeline ranks of sixteen GPUs share no node.
    REQUIRE(step.play_column().nic_bytes == messages * step.plan.message);
  }
}

TEST_CASE("where only latency counts every kind takes what its timing says", "[step][every]") {
  const auto* const latency = GENERATE("0 us", "50 us");
  for (const std::string& kind : kinds()) {
    CAPTURE(kind, latency);
    Scenario s = with_equal_stages(planned(kind, {"cluster.nic.latency=" + std::string(latency)}));
    make_bandwidth_boundless(s.cluster);
    s.cluster.fabric.spine_latency = s.cluster.nvlink.latency = Duration();
    const Planned step(s);
    const ScheduleTiming timing = time_schedule(
        step.schedule, {.passes = {durations_of(s)}, .transfer_latency = s.cluster.nic.latency});
    const ColumnTimes column = step.play_column();
    for (std::size_t rank = 0; rank < step.ranks(); ++rank) {
      CAPTURE(rank);
      REQUIRE(column.gpus[rank].finished == timing.finish[rank]);
    }
    Duration end;
    for (const OptimizerPlan& optimizer : step.plan.optimizer) {
      REQUIRE(optimizer.reduce_scatter >= Duration());
      end = std::max(end, optimizer.update);
    }
    if (s.cluster.nic.latency == Duration()) {
      REQUIRE(step.play().time == (timing.makespan - Time()) + end);
    }
  }
}

TEST_CASE("every kind's activations are those of the chunks that its schedule keeps",
          "[memory][every]") {
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const Planned step(planned(kind));
    const Scenario& s = step.scenario;
    const LayerLoad load = balanced_load(s.model, s.plan, s.recipe.seq_length);
    std::vector<StageBytes> stages;
    for (const std::vector<LayerKind>& layers : s.plan.pipeline_layout) {
      StageBytes& bytes = stages.emplace_back();
      for (const LayerKind layer : layers) {
        const LayerMemory memory = layer_memory(s.model, s.plan, layer, load);
        bytes.activations +=
            memory.at(Bundle::kAttentionKept).bytes + memory.at(Bundle::kMlpKept).bytes;
        bytes.weight_operands +=
            memory.at(Bundle::kAttentionOperands).bytes + memory.at(Bundle::kMlpOperands).bytes;
      }
    }
    const StepMemory memory(s, s.plan, step.schedule, step.plan, {});
    const std::vector<Bytes> whole_chunks = peak_live_bytes(step.schedule, stages);
    for (std::size_t rank = 0; rank < step.ranks(); ++rank) {
      CAPTURE(rank);
      Bytes most;
      memory.play(static_cast<int>(rank), [&most](Time, const MemoryTotals& totals) {
        most = std::max(most, totals.of(MemoryCategory::kActivations));
      });
      // Between steps what is kept is whole chunks.
      LiveChunks chunks(step.schedule.lanes(), !has_backward(step.schedule));
      Bytes between;
      Bytes operands;
      for (const Step& one : step.schedule.ranks[rank]) {
        chunks.start(one);
        chunks.finish(one);
        Bytes now;
        for (std::size_t lane = 0; lane < step.schedule.stage_of.size(); ++lane) {
          const StageBytes& bytes =
              stages[static_cast<std::size_t>(step.schedule.stage_of[lane][rank])];
          now += chunks.lanes()[lane].live * bytes.activations +
                 chunks.lanes()[lane].deferred_weights * bytes.weight_operands;
          operands = std::max(operands, bytes.weight_operands);
        }
        between = std::max(between, now);
      }
      REQUIRE(most >= between);
      // Within a step a pair's forward takes what its backward has freed, and a backward has the
      // operands of its own weight gradients.
      REQUIRE(most <= whole_chunks[rank] + operands);
    }
  }
}

TEST_CASE("every kind holds the model once per direction", "[memory][every]") {
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    // Without MTP no rank but the embedding's needs a copy of the embedding.
    const Scenario s = planned(kind, {"model.num_nextn_predict_layers=0"});
    const Schedule schedule = choose_schedule(s.plan, kMicrobatches).schedule;
    std::int64_t model = 0;
    for (const std::vector<LayerKind>& stage : s.plan.pipeline_layout) {
      model += parameters_of_stage(s.model, stage, s.plan.ep).total();
    }
    std::int64_t held = 0;
    for (int rank = 0; rank < s.plan.pp; ++rank) {
      held += persistent_memory(s, s.plan, schedule, rank).parameters;
    }
    REQUIRE(held == schedule.paths() * model);
  }
}

TEST_CASE("ranks reduce gradients with those that hold the same stages, each stage once",
          "[plan][every]") {
  for (const std::string& kind : kinds()) {
    CAPTURE(kind);
    const Planned step(planned(kind));
    const std::size_t holders = static_cast<std::size_t>(step.schedule.paths());
    std::set<int> seen;
    for (const std::vector<int>& group : step.plan.reduction_groups) {
      REQUIRE(group.size() == holders);
      seen.insert(group.begin(), group.end());
    }
    REQUIRE(seen.size() == step.ranks());
    for (const OptimizerPlan& optimizer : step.plan.optimizer) {
      REQUIRE((optimizer.update > Duration()) == has_backward(step.schedule));
      REQUIRE((optimizer.nic_bytes > Bytes()) == has_backward(step.schedule));
    }
  }
}

TEST_CASE("the middle rank of an odd pipeline of two directions holds its stage once", "[plan]") {
  constexpr ChunkPass kF0{Pass::kForward, 0, 0};
  constexpr ChunkPass kF1{Pass::kForward, 1, 0};
  constexpr ChunkPass kB0{Pass::kBackward, 0, 0};
  constexpr ChunkPass kB1{Pass::kBackward, 1, 0};
  Schedule schedule;
  schedule.ranks = {
      {{kF0}, {kF1}, {kB1}, {kB0}}, {{kF0}, {kF1}, {kB0}, {kB1}}, {{kF1}, {kF0}, {kB0}, {kB1}}};
  schedule.stage_of = stages_both_ways(3);
  schedule.microbatches = {1, 1};
  REQUIRE_FALSE(check_schedule(schedule));

  Scenario s = punctual(tiny());
  s.cluster.nodes = 6;  // 48 GPUs, 16 on a rank
  s.plan.pp = 3;
  s.plan.pipeline_layout.assign(3, {LayerKind::kMoe});
  const StepPlan both = plan_step(s, s.plan, schedule, routing_of(s));
  REQUIRE(both.reduction_groups == std::vector<std::vector<int>>{{0, 2}, {1}});
  // What it reduces alone is one layer's, as on a rank of a pipeline of one direction.
  const StepPlan line = plan_step(s, s.plan, make_schedule("1f1b", 3, 2), routing_of(s));
  REQUIRE(both.optimizer[1].update == line.optimizer[1].update);
  REQUIRE(both.optimizer[1].nic_bytes == line.optimizer[1].nic_bytes);
  const auto parameters = [&](int rank) {
    return persistent_memory(s, s.plan, schedule, rank).parameters;
  };
  REQUIRE(parameters(0) == 2 * parameters(1));
}
