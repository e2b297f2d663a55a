#include <algorithm>
#include <boost/graph/lookup_edge.hpp>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>

#include "scenarios.hpp"
#include "sim/cluster/operation_graph.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// A column of a step and the graph of what its last GPU waited for.
struct Played {
  StepPlan plan;
  ColumnTimes column;
  int last_gpu = 0;
  ExecutedStep step;
};

Played play(const Scenario& s, const std::string& kind, int microbatches, SimulationMode mode) {
  const Schedule schedule = make_schedule(kind, s.plan.pp, microbatches);
  Played out{.plan = plan_step(s, s.plan, schedule, routing_of(s), {.mode = mode}),
             .column = {},
             .last_gpu = 0,
             .step = {}};
  out.column = simulate_column(s, s.plan, out.plan, schedule, {.mode = mode}, 0);
  const auto& gpus = out.column.gpus;
  const auto last = std::max_element(gpus.begin(), gpus.end(), [](const auto& a, const auto& b) {
    return a.finished < b.finished;
  });
  out.last_gpu = static_cast<int>(last - gpus.begin());
  out.step = executed_step(out.plan, out.column, out.last_gpu);
  return out;
}

/// Every GPU at its own pace, everybody late at times.
Scenario uneven() {
  return tiny(
      {"variation.jitter=0.05", "variation.speed_deviation=0.02", "variation.late_arrivals=1"});
}

Duration time_of(const ExecutedOperation& operation) { return operation.end - operation.start; }

Duration time_on_rank(const StepTimes& times, int rank) {
  Duration sum;
  for (const CriticalShare& share : times.critical_path) {
    if (share.pipeline_rank == rank) sum += share.time;
  }
  return sum;
}

/// Of the optimizer after the reduction: everybody waits for the slowest rank.
Duration slowest_update(const StepPlan& plan) {
  Duration slowest;
  for (const OptimizerPlan& optimizer : plan.optimizer)
    slowest = std::max(slowest, optimizer.update + optimizer.all_gather);
  return slowest;
}

}  // namespace

TEST_CASE("the longest path leaves no gap between the step's beginning and its end",
          "[critical][property]") {
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  const SimulationMode mode = GENERATE(SimulationMode::kFull, SimulationMode::kFolded);
  const bool even = GENERATE(true, false);
  CAPTURE(kind, even);
  const Played played = play(even ? punctual(tiny()) : uneven(), kind, 16, mode);
  const OperationGraph& graph = played.step.graph;
  const std::vector<OperationVertex> path = longest_path(graph, played.step.end);

  REQUIRE(path.front() == played.step.end);
  for (std::size_t i = 1; i < path.size(); ++i) {
    // What an operation waited for ended when it started, or it would not have waited.
    REQUIRE(boost::lookup_edge(path[i - 1], path[i], graph).second);
    REQUIRE(graph[path[i]].end == graph[path[i - 1]].start);
  }
  REQUIRE(graph[path.back()].start == Time());
  const auto last_rank = static_cast<std::size_t>(
      played.last_gpu / (static_cast<int>(played.column.gpus.size()) / played.plan.ranks()));
  REQUIRE(graph[path.front()].end ==
          played.column.gpus[static_cast<std::size_t>(played.last_gpu)].finished +
              played.plan.optimizer[last_rank].reduce_scatter + played.plan.norm_all_reduce +
              slowest_update(played.plan));
}

TEST_CASE("nothing starts before what it waited for has ended, and each chunk is there once",
          "[critical][property]") {
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  const SimulationMode mode = GENERATE(SimulationMode::kFull, SimulationMode::kFolded);
  const Played played = play(uneven(), kind, 16, mode);
  const OperationGraph& graph = played.step.graph;
  for (auto [edge, end] = boost::edges(graph); edge != end; ++edge) {
    const ExecutedOperation& waits = graph[boost::source(*edge, graph)];
    const ExecutedOperation& ends = graph[boost::target(*edge, graph)];
    REQUIRE(ends.end <= waits.start);
    if (graph[*edge] == Reason::kPreviousChunk) {
      REQUIRE(waits.gpu == ends.gpu);
      REQUIRE(waits.step == ends.step + 1);
    }
    if (graph[*edge] == Reason::kMessage) REQUIRE(ends.end == waits.start);
  }
  std::vector<std::tuple<int, int, const Task*>> tasks;
  for (auto [vertex, end] = boost::vertices(graph); vertex != end; ++vertex) {
    const ExecutedOperation& operation = graph[*vertex];
    if (operation.task != nullptr)
      tasks.emplace_back(operation.gpu, operation.step, operation.task);
  }
  std::sort(tasks.begin(), tasks.end());
  REQUIRE(std::adjacent_find(tasks.begin(), tasks.end()) == tasks.end());
  REQUIRE(!tasks.empty());
}

TEST_CASE("an exchange starts when the last of the arrivals that led to it has happened",
          "[critical]") {
  const Played played = play(uneven(), "1f1b", 8, SimulationMode::kFull);
  const OperationGraph& graph = played.step.graph;
  int exchanges_on_path = 0;
  for (const OperationVertex vertex : longest_path(graph, played.step.end)) {
    const ExecutedOperation& exchange = graph[vertex];
    if (exchange.task == nullptr || !exchange.task->collective) continue;
    ++exchanges_on_path;
    Time last;
    int last_gpu = -1;
    for (auto [edge, end] = boost::out_edges(vertex, graph); edge != end; ++edge) {
      REQUIRE(graph[*edge] == Reason::kArrival);
      const ExecutedOperation& arrival = graph[boost::target(*edge, graph)];
      if (arrival.end > last) {
        last = arrival.end;
        last_gpu = arrival.gpu;
      }
    }
    REQUIRE(last == exchange.start);
    REQUIRE(last_gpu == exchange.gpu);
  }
  REQUIRE(exchanges_on_path > 0);
}

TEST_CASE("of two ways the longer one is critical, however few its operations", "[critical]") {
  // 0 waited for 1, which waited for 2 and that for 3: three short ones; and for 4, a long one.
  const auto at = [](int start, int end) {
    return ExecutedOperation{.start = Time(start), .end = Time(end)};
  };
  const std::vector<ExecutedOperation> operations = {at(9, 10), at(6, 7), at(4, 5), at(0, 1),
                                                     at(2, 9)};
  const std::vector<std::pair<OperationVertex, OperationVertex>> waits = {
      {0, 1}, {1, 2}, {2, 3}, {0, 4}, {4, 3}};
  const std::vector<Reason> reasons(waits.size(), Reason::kData);
  OperationGraph graph(boost::edges_are_unsorted_multi_pass, waits.begin(), waits.end(),
                       reasons.begin(), static_cast<OperationVertex>(operations.size()));
  for (std::size_t i = 0; i < operations.size(); ++i)
    graph[static_cast<OperationVertex>(i)] = operations[i];
  const std::vector<OperationVertex> path = longest_path(graph, 0);
  REQUIRE(path == std::vector<OperationVertex>{0, 4, 3});
  Duration sum;
  for (const OperationVertex vertex : path) sum += time_of(graph[vertex]);
  REQUIRE(sum == Duration(1 + 7 + 1));
}

TEST_CASE("the only micro-batch's way through the pipeline and back is critical", "[critical]") {
  Scenario s = punctual(tiny());
  const Bandwidth boundless(std::numeric_limits<double>::infinity());
  s.cluster.nic.bandwidth = s.cluster.pcie.bandwidth = s.cluster.nvlink.bandwidth = boundless;
  s.cluster.nic.latency = s.cluster.nvlink.latency = s.cluster.fabric.spine_latency = Duration();
  const Schedule schedule = make_schedule("1f1b", s.plan.pp, 1);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  const StepTimes times = simulate_step(s, s.plan, plan, schedule, {});

  // Nothing runs beside anything: a rank is on the path with both of its passes whole. All update
  // together then, and the update of one of the slowest is critical.
  int updates = 0;
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    CAPTURE(rank);
    const Duration passes =
        builder.single(Pass::kForward, rank).alone + builder.single(Pass::kBackward, rank).alone;
    if (time_on_rank(times, rank) == passes) continue;
    ++updates;
    REQUIRE(time_on_rank(times, rank) == passes + slowest_update(plan));
  }
  REQUIRE(updates == 1);
}

TEST_CASE("a straggler's pipeline rank carries most of the critical path", "[critical]") {
  const Scenario s = punctual(tiny({"variation.stragglers=1", "variation.straggler_slowness=2"}));
  const StepTimes times = simulate(s, "1f1b", 32, SimulationMode::kFull);
  // Whoever is busy longest is the straggler's rank: others wait for it in bubbles.
  const auto idle = [](const RankTimes& rank) {
    return rank.breakdown[static_cast<std::size_t>(TimeCategory::kBubble)] +
           rank.breakdown[static_cast<std::size_t>(TimeCategory::kCommunicationExposed)];
  };
  const auto slow = std::min_element(
      times.ranks.begin(), times.ranks.end(),
      [&idle](const RankTimes& a, const RankTimes& b) { return idle(a) < idle(b); });
  const Duration carried = time_on_rank(times, static_cast<int>(slow - times.ranks.begin()));
  REQUIRE(2 * carried > times.time);
}

TEST_CASE("shares of an uneven step sum to its time, to the picosecond", "[critical]") {
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  const StepTimes times = simulate(uneven(), kind, 16, SimulationMode::kFull);
  const Duration sum = std::accumulate(
      times.critical_path.begin(), times.critical_path.end(), Duration(),
      [](Duration before, const CriticalShare& share) { return before + share.time; });
  REQUIRE(sum == times.time);
}
