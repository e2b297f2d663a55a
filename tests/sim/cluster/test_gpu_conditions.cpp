#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "base/random.hpp"
#include "playable_step.hpp"
#include "sim/cluster/gpu_conditions.hpp"
#include "sim/gpu/stretch.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const double kPi = std::acos(-1.0);

/// Plans do not depend on how GPUs differ: one serves all cases.
const PlayableStep& tiny_step() {
  static const PlayableStep step(tiny());
  return step;
}
const PlayableStep& uneven_step() {
  static const PlayableStep step(tiny(dirichlet("10")));
  return step;
}

GpuConditions conditions_of(const PlayableStep& step, const VariationSpec& variation,
                            std::uint64_t seed = 1, SimulationMode mode = SimulationMode::kFull,
                            int column = 0) {
  Scenario s = step.scenario;
  s.variation = variation;
  StepConditions conditions = step.conditions(seed);
  conditions.mode = mode;
  return {s, s.plan, step.plan, conditions, column};
}

/// Slowness of all GPUs of a column: pipeline rank by pipeline rank.
std::vector<double> slowness_of(const PlayableStep& step, const GpuConditions& conditions) {
  std::vector<double> out;
  for (int rank = 0; rank < step.plan.ranks(); ++rank) {
    for (int index = 0; index < conditions.group_size(); ++index) {
      out.push_back(conditions.chunk(rank, index, 0, nullptr).slowness);
    }
  }
  return out;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Tasks of a chunk without exchanges: they run one after the other.
std::vector<Task> tasks_in_turn() {
  const PlayableStep step(tiny({"plan.ep=1"}), "1f1b", 4);
  return step.plan.programs.front().tasks;
}

Duration play(const std::vector<Task>& tasks, const ChunkConditions& conditions) {
  std::vector<TaskSpan> spans(tasks.size());
  ChunkPlay chunk;
  chunk.begin(tasks, spans.data(), Time(), conditions);
  const ChunkPlay::Stop stop = chunk.advance();
  REQUIRE(stop.ended);
  return stop.when - Time();
}

}  // namespace

TEST_CASE("the greatest of n normal numbers has its known mean", "[conditions]") {
  // Closed forms of order statistics: Jones 1948, Ann. Math. Stat. 19, p. 270.
  REQUIRE(expected_greatest_normal(1) == Approx(0).margin(1e-9));
  REQUIRE(expected_greatest_normal(2) == Approx(1 / std::sqrt(kPi)));
  REQUIRE(expected_greatest_normal(3) == Approx(3 / (2 * std::sqrt(kPi))));
  REQUIRE(expected_greatest_normal(4) ==
          Approx(6 * std::atan(std::sqrt(2.0)) / std::pow(kPi, 1.5)));
  const double fifth = 5 / (4 * std::sqrt(kPi)) * (1 + 6 / kPi * std::asin(1.0 / 3));
  REQUIRE(expected_greatest_normal(5) == Approx(fifth));
}

TEST_CASE("the greatest of many normal numbers has the mean of drawn ones", "[conditions]") {
  const int n = GENERATE(16, 64, 300);
  Random random(1, "normals");
  constexpr int kDraws = 3000;
  double sum = 0;
  double squares = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    double greatest = random.normal();
    for (int i = 1; i < n; ++i) greatest = std::max(greatest, random.normal());
    sum += greatest;
    squares += greatest * greatest;
  }
  const double drawn = sum / kDraws;
  const double error = std::sqrt((squares / kDraws - drawn * drawn) / kDraws);
  REQUIRE(expected_greatest_normal(n) == Approx(drawn).margin(4 * error));
}

TEST_CASE("a GPU takes its slowness times as long, task by task", "[conditions]") {
  const std::vector<Task> tasks = tasks_in_turn();
  const double slowness = GENERATE(1.0, 1.25, 3.0);
  Duration wanted;
  for (const Task& task : tasks) wanted += scaled(task.times.time.front(), slowness);
  REQUIRE(play(tasks, {.slowness = slowness}) == wanted);
}

TEST_CASE("jitter changes every task by chance and none on average", "[conditions]") {
  const std::vector<Task> tasks = tasks_in_turn();
  constexpr double kJitter = 0.2;
  constexpr int kPlays = 4000;
  const Duration alone = play(tasks, {});
  double sum = 0;
  double squares = 0;
  for (std::uint64_t i = 0; i < kPlays; ++i) {
    const Duration time = play(tasks, {.jitter = kJitter, .random = Random(1, "jitter", i)});
    REQUIRE(time != alone);
    const double over = to_seconds(time) / to_seconds(alone);
    sum += over;
    squares += over * over;
  }
  // Independent log-normal factors of mean 1 and variance exp(s^2) - 1.
  double variance = 0;
  for (const Task& task : tasks) {
    const double share = to_seconds(task.times.time.front()) / to_seconds(alone);
    variance += share * share * (std::exp(kJitter * kJitter) - 1);
  }
  const double over = sum / kPlays;
  REQUIRE(over == Approx(1).margin(4 * std::sqrt(variance / kPlays)));
  REQUIRE(squares / kPlays - over * over == Approx(variance).epsilon(0.15));
}

TEST_CASE("alike GPUs are exactly as fast as one", "[conditions]") {
  const SimulationMode mode = GENERATE(SimulationMode::kFull, SimulationMode::kFolded);
  const GpuConditions conditions = conditions_of(tiny_step(), kAlike, 1, mode);
  REQUIRE(conditions.group_size() == (mode == SimulationMode::kFull ? 16 : 1));
  for (const double slowness : slowness_of(tiny_step(), conditions)) REQUIRE(slowness == 1);
  Random random(1, "delay");
  REQUIRE(conditions.delay(random) == Duration());
}

TEST_CASE("just as many GPUs as asked for are stragglers, drawn from all columns",
          "[conditions][property]") {
  // Columns of four replicas, so that stragglers have to be shared out among them.
  static const PlayableStep step(tiny({"plan.ep=4"}));
  const int stragglers = GENERATE(0, 1, 5, 64, 1000);
  const std::uint64_t seed = GENERATE(1U, 2U, 3U);
  constexpr double kSlowness = 1.5;
  CAPTURE(stragglers, seed);
  int found = 0;
  for (int column = 0; column < step.scenario.data_parallel() / step.scenario.plan.ep; ++column) {
    const GpuConditions conditions = conditions_of(
        step, {.stragglers = stragglers, .straggler_slowness = kSlowness, .late_arrivals = 0}, seed,
        SimulationMode::kFull, column);
    for (const double slowness : slowness_of(step, conditions)) {
      REQUIRE((slowness == 1 || slowness == kSlowness));
      found += slowness == kSlowness ? 1 : 0;
    }
  }
  REQUIRE(found == std::min(stragglers, step.scenario.cluster.gpus()));
}

TEST_CASE("GPUs' speeds spread as asked for", "[conditions]") {
  constexpr double kDeviation = 0.05;
  std::vector<double> speeds;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto conditions =
        conditions_of(tiny_step(), {.speed_deviation = kDeviation, .late_arrivals = 0}, seed);
    for (const double slowness : slowness_of(tiny_step(), conditions)) {
      speeds.push_back(1 / slowness);
    }
  }
  const auto n = static_cast<double>(speeds.size());
  const double average = mean(speeds);
  REQUIRE(average == Approx(1).margin(4 * kDeviation / std::sqrt(n)));
  double squares = 0;
  for (const double speed : speeds) squares += (speed - average) * (speed - average);
  // The standard error of a standard deviation is itself over sqrt(2n).
  REQUIRE(std::sqrt(squares / n) == Approx(kDeviation).margin(4 * kDeviation / std::sqrt(2 * n)));
}

TEST_CASE("one GPU that stands for all is as slow as the slowest is expected to be",
          "[conditions]") {
  constexpr auto kFolded = SimulationMode::kFolded;
  const PlayableStep& step = tiny_step();
  const auto slowness = [&](const VariationSpec& variation) {
    return slowness_of(step, conditions_of(step, variation, 1, kFolded)).front();
  };
  const double straggler =
      slowness({.stragglers = 3, .straggler_slowness = 1.5, .late_arrivals = 0});
  REQUIRE(straggler == 1.5);
  const double slowest = slowness({.speed_deviation = 0.02, .late_arrivals = 0});
  REQUIRE(slowest ==
          Approx(1 / (1 - 0.02 * expected_greatest_normal(step.scenario.cluster.gpus()))));
  // Even absurd deviations leave a GPU a tenth of its speed.
  REQUIRE(slowness({.speed_deviation = 10, .late_arrivals = 0}) == Approx(10));
}

TEST_CASE("a measured group's GPUs wait for their last one as long as measured", "[conditions]") {
  // The mean of the greatest of n exponential delays over their mean is the harmonic number less 1.
  constexpr int kMeasured = 64;
  constexpr int kGroups = 3000;
  const double late = GENERATE(1.0, 2.5);
  const GpuConditions conditions = conditions_of(tiny_step(), {.late_arrivals = late});
  Random random(1, "delay");
  double waited = 0;
  double squares = 0;
  for (int group = 0; group < kGroups; ++group) {
    double sum = 0;
    double last = 0;
    for (int gpu = 0; gpu < kMeasured; ++gpu) {
      const double delay = to_microseconds(conditions.delay(random));
      sum += delay;
      last = std::max(last, delay);
    }
    const double wait = last - sum / kMeasured;
    waited += wait / kGroups;
    squares += wait * wait / kGroups;
  }
  const double measured = tiny_step().scenario.calibration.communication.peers_late_us.value * late;
  REQUIRE(waited == Approx(measured).margin(4 * std::sqrt((squares - waited * waited) / kGroups)));
}

TEST_CASE("one GPU that stands for all is as late as the last of its group is expected to be",
          "[conditions]") {
  const PlayableStep& step = tiny_step();
  const GpuConditions folded = conditions_of(step, {}, 1, SimulationMode::kFolded);
  const GpuConditions full = conditions_of(step, {});
  Random random(1, "delay");
  constexpr int kDraws = 20000;
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) sum += to_microseconds(full.delay(random)) / kDraws;
  double harmonic = 0;
  for (int i = 1; i <= step.scenario.plan.ep; ++i) harmonic += 1.0 / i;
  // The standard deviation of an exponential number is its mean.
  REQUIRE(to_microseconds(folded.delay(random)) ==
          Approx(sum * harmonic).epsilon(4 / std::sqrt(kDraws)));
}

TEST_CASE("a chunk's conditions are the same whenever they are asked for, other chunks' others",
          "[conditions]") {
  const PlayableStep& step = uneven_step();
  const VariationSpec variation{.speed_deviation = 0.01, .jitter = 0.05};
  std::vector<TaskLoad> loads(64);
  const auto bits = [&](std::uint64_t seed, int rank, int index, int position) {
    return conditions_of(step, variation, seed)
        .chunk(rank, index, position, loads.data())
        .random.bits();
  };
  const std::uint64_t here = bits(1, 2, 3, 4);
  REQUIRE(bits(1, 2, 3, 4) == here);
  for (const std::uint64_t other :
       {bits(2, 2, 3, 4), bits(1, 1, 3, 4), bits(1, 2, 4, 4), bits(1, 2, 3, 5)}) {
    REQUIRE(other != here);
  }
}

TEST_CASE("loads of a column are one on average and no tokens are lost", "[loads][property]") {
  const auto* const concentration = GENERATE("1", "10", "100");
  const PlayableStep& step = uneven_step();
  const auto router = router_of(tiny(dirichlet(concentration)), 1);
  const ColumnLoads loads(step.scenario, step.scenario.plan, step.plan, *router, 0);
  const int gpus = step.scenario.plan.ep;
  double busiest = 0;
  for (int layer = 0; layer < step.plan.moe_layers; ++layer) {
    for (int microbatch = 0; microbatch < step.plan.microbatches; ++microbatch) {
      CAPTURE(concentration, layer, microbatch);
      double rows = 0;
      double most = 0;
      for (int gpu = 0; gpu < gpus; ++gpu) {
        const TaskLoad& load = loads.gpu(layer, microbatch, gpu);
        REQUIRE(load.rows >= 0);
        // A token that wants several of a GPU's experts comes once.
        REQUIRE(load.received >= 0);
        rows += static_cast<double>(load.rows);
        most = std::max(most, static_cast<double>(load.rows));
      }
      constexpr double kFloats = 1e-5;  // counts have 24 bits
      REQUIRE(rows == Approx(gpus).epsilon(kFloats));
      const GroupExchange& exchange = loads.exchange(layer, microbatch);
      REQUIRE(exchange.nic >= 1);
      for (const float stretch : exchange.stretch) REQUIRE(stretch >= 1);
      busiest += most;
    }
  }
  const int draws = step.plan.moe_layers * step.plan.microbatches;
  REQUIRE(loads.statistics().gpu_max_over_mean == Approx(busiest / draws));
  REQUIRE(loads.statistics().expert_max_over_mean >= loads.statistics().gpu_max_over_mean);
}

TEST_CASE("less even routing means busier busiest GPUs and longer exchanges", "[loads]") {
  double before = 1;
  double stretch_before = 1;
  for (const auto* const concentration : {"1000", "100", "10", "1"}) {
    CAPTURE(concentration);
    const PlayableStep& step = uneven_step();
    const auto router = router_of(tiny(dirichlet(concentration)), 1);
    const ColumnLoads loads(step.scenario, step.scenario.plan, step.plan, *router, 0);
    REQUIRE(loads.statistics().gpu_max_over_mean > before);
    before = loads.statistics().gpu_max_over_mean;
    double stretch = 0;
    for (int layer = 0; layer < step.plan.moe_layers; ++layer) {
      stretch += static_cast<double>(loads.exchange(layer, 0).stretch[0]) / step.plan.moe_layers;
    }
    REQUIRE(stretch > stretch_before);
    stretch_before = stretch;
  }
}

TEST_CASE("an exchange of a busiest GPU with even shares takes its planned time", "[exchange]") {
  const PlayableStep& step = tiny_step();
  for (std::size_t kind = 0; kind < kExchangeKinds; ++kind) {
    const PlannedExchange& exchange = step.plan.exchanges[kind];
    REQUIRE(stretch_of(exchange, {}, step.scenario, step.scenario.plan) == 1);
    REQUIRE(exchange.nic <= exchange.time);
    double before = 1;
    for (const double shares : {1.2, 1.6, 2.4}) {
      const double stretch = stretch_of(exchange, {.nic = shares, .copies = shares}, step.scenario,
                                        step.scenario.plan);
      REQUIRE(stretch > before);
      // Whatever is bound by what the busiest GPU moves; latencies do not stretch.
      REQUIRE(stretch <= shares * (1 + 1e-9));
      before = stretch;
    }
  }
}
