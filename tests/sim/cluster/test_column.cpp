#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>
#include <thread>

#include "model/schedules/timing.hpp"
#include "playable_step.hpp"
#include "sim/gpu/stretch.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// Everything that makes GPUs differ.
constexpr VariationSpec kAllVaried{
    .speed_deviation = 0.02, .jitter = 0.05, .stragglers = 2, .straggler_slowness = 1.2};

Scenario varied(Scenario s, const VariationSpec& variation = kAllVaried) {
  s.variation = variation;
  return s;
}

/// Routing and GPUs that are uneven in every way, in four columns.
const PlayableStep& uneven_step() {
  static const PlayableStep step = [] {
    std::vector<std::string> sets = dirichlet("5");
    sets.emplace_back("plan.ep=4");
    return PlayableStep(varied(tiny(sets)));
  }();
  return step;
}

/// Balanced, with the whole data-parallel width as one group.
const PlayableStep& balanced_step() {
  static const PlayableStep step(punctual(tiny()));
  return step;
}

/// Columns on threads of their own, in whatever order these come to them.
ForEach on_threads(int threads) {
  return [threads](std::size_t count, const std::function<void(std::size_t)>& function) {
    std::atomic<std::size_t> next{count};
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&] {
        // From the last one, so that one thread's order differs from the usual one too.
        for (std::size_t left = next.load(); left > 0;) {
          if (next.compare_exchange_weak(left, left - 1)) function(left - 1);
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
  };
}

Duration sum(const std::array<Duration, kTimeCategories>& breakdown) {
  return std::accumulate(breakdown.begin(), breakdown.end(), Duration());
}

Duration mean_waiting(const StepTimes& times) {
  Duration all;
  for (const RankTimes& rank : times.ranks) all += rank.overlap.waiting_for_peers;
  return Duration(all.count() / static_cast<std::int64_t>(times.ranks.size()));
}

/// Mean over seeds, in seconds.
template <class Function>
double mean_over_seeds(Function&& seconds) {
  constexpr int kSeeds = 5;
  double all = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) all += seconds(seed);
  return all / kSeeds;
}

/// Position in the column of its one straggler.
std::size_t straggler_of(const PlayableStep& step, const ColumnTimes& column) {
  for (int rank = 0; rank < step.plan.ranks(); ++rank) {
    for (int index = 0; index < step.scenario.plan.ep; ++index) {
      if (column.conditions->chunk(rank, index, 0, nullptr).slowness > 1) {
        return static_cast<std::size_t>(rank * step.scenario.plan.ep + index);
      }
    }
  }
  FAIL("no straggler");
  return 0;
}

}  // namespace

TEST_CASE("an uneven step is the same to the last bit on any number of threads",
          "[column][threads]") {
  const std::string one = text_of(uneven_step().play());
  const int threads = GENERATE(1, 2, 4);
  CAPTURE(threads);
  REQUIRE(text_of(uneven_step().play(1, on_threads(threads))) == one);
}

TEST_CASE("the same seed gives the same step, another seed another one", "[column]") {
  const PlayableStep& step = uneven_step();
  const std::string one = text_of(step.play(1));
  REQUIRE(text_of(step.play(1)) == one);
  REQUIRE(text_of(step.play(2)) != one);  // other GPUs
  PlayableStep routed = step;
  routed.router = router_of(step.scenario, 2);
  REQUIRE(text_of(routed.play(1)) != one);  // other tokens
  routed.router = router_of(step.scenario, 1);
  REQUIRE(text_of(routed.play(1)) == one);
}

TEST_CASE("chance has its say in each way in which GPUs differ, and none where they are alike",
          "[column]") {
  const VariationSpec variation =
      GENERATE(VariationSpec{.speed_deviation = 0.02, .late_arrivals = 0},
               VariationSpec{.jitter = 0.05, .late_arrivals = 0}, VariationSpec{});
  const PlayableStep& step = balanced_step();
  REQUIRE(text_of(step.play_with(variation, 1)) == text_of(step.play_with(variation, 1)));
  REQUIRE(text_of(step.play_with(variation, 1)) != text_of(step.play_with(variation, 2)));
  // Chance has no say where nothing is random.
  REQUIRE(text_of(step.play_with(kAlike, 1)) == text_of(step.play_with(kAlike, 2)));
}

TEST_CASE("the less even routing is, the longer a step takes", "[column][property]") {
  const auto* const schedule = GENERATE("dualpipe", "1f1b");
  double before = to_seconds(PlayableStep(punctual(tiny()), schedule).play().time);
  double waited_before = 0;
  PlayableStep step(punctual(tiny(dirichlet("1000"))), schedule);
  for (const auto* const concentration : {"1000", "30", "5", "1"}) {
    CAPTURE(schedule, concentration);
    const Scenario routed = tiny(dirichlet(concentration));
    double waited = 0;
    const double time = mean_over_seeds([&](std::uint64_t seed) {
      step.router = router_of(routed, seed);
      const StepTimes times = step.play();
      waited += to_seconds(mean_waiting(times));
      return to_seconds(times.time);
    });
    REQUIRE(time > before);
    REQUIRE(waited > waited_before);
    before = time;
    waited_before = waited;
  }
}

TEST_CASE("whatever makes GPUs differ slows the step, and more of it more", "[column][property]") {
  const auto scaled_by = GENERATE(
      +[](double x) { return VariationSpec{.speed_deviation = 0.01 * x, .late_arrivals = 0}; },
      +[](double x) { return VariationSpec{.jitter = 0.02 * x, .late_arrivals = 0}; },
      +[](double x) { return VariationSpec{.late_arrivals = x}; },
      +[](double x) {
        return VariationSpec{
            .stragglers = 1, .straggler_slowness = 1 + 0.1 * x, .late_arrivals = 0};
      });
  const PlayableStep& step = balanced_step();
  double before = to_seconds(step.play().time);
  for (const double amount : {1.0, 2.0, 4.0}) {
    const VariationSpec variation = scaled_by(amount);
    CAPTURE(variation.speed_deviation, variation.jitter, variation.late_arrivals,
            variation.straggler_slowness);
    const double time = mean_over_seeds([&](std::uint64_t seed) {
      const double one = to_seconds(step.play_with(variation, seed).time);
      // A GPU may be drawn faster than it should be; delays and stragglers only ever add.
      if (variation.speed_deviation == 0 && variation.jitter == 0) {
        REQUIRE(one >= to_seconds(step.play().time));
      }
      return one;
    });
    REQUIRE(time > before);
    before = time;
  }
}

TEST_CASE("a straggler's group and its neighbours wait for it, it waits for nobody",
          "[column][straggler]") {
  const std::uint64_t seed = GENERATE(1U, 2U, 3U);
  const VariationSpec one{.stragglers = 1, .straggler_slowness = 1.5, .late_arrivals = 0};
  const PlayableStep step(varied(tiny(), one));
  const ColumnTimes alike = balanced_step().play_column();
  const ColumnTimes column = step.play_column(0, seed);
  const auto group = static_cast<std::size_t>(step.scenario.plan.ep);
  const std::size_t slow = straggler_of(step, column);
  CAPTURE(seed, slow);
  for (std::size_t gpu = 0; gpu < column.gpus.size(); ++gpu) {
    CAPTURE(gpu);
    REQUIRE(alike.gpus[gpu].overlap.waiting_for_peers == Duration());
    const Duration waited = column.gpus[gpu].overlap.waiting_for_peers;
    // The pipeline of the straggler is last everywhere. A message that comes too late for it may be
    // early enough for a rank further away.
    if (gpu % group == slow % group) {
      REQUIRE(waited == Duration());
    } else if (gpu / group + 1 >= slow / group && gpu / group <= slow / group + 1) {
      REQUIRE(waited > Duration());
    }
    REQUIRE(column.gpus[gpu].finished > alike.gpus[gpu].finished);
  }
}

TEST_CASE("a step takes at least a straggler's own work and the optimizer's", "[straggler]") {
  const double slowness = GENERATE(1.5, 3.0, 10.0);
  const PlayableStep step(
      varied(tiny(), {.stragglers = 1, .straggler_slowness = slowness, .late_arrivals = 0}));
  const std::size_t slow = straggler_of(step, step.play_column());
  const std::size_t rank = slow / static_cast<std::size_t>(step.scenario.plan.ep);
  Duration work;
  for (const PlannedStep& planned : step.plan.steps[rank]) {
    for (const Task& task : step.plan.programs[static_cast<std::size_t>(planned.program)].tasks) {
      if (!task.communication) work += scaled(task.times.time.front(), slowness);
    }
  }
  const OptimizerPlan& optimizer = step.plan.optimizer[rank];
  const Duration end = optimizer.reduce_scatter + optimizer.update + optimizer.all_gather;
  CAPTURE(slowness);
  REQUIRE(step.play().time >= work + end);
  // The bound says something: so slow a GPU alone works longer than the step of alike ones takes.
  if (slowness == 10) REQUIRE(work > balanced_step().play().time);
}

TEST_CASE("a straggler's pipeline takes what its schedule's timing says of a slower stage",
          "[straggler]") {
  // Without expert parallelism nobody waits for a peer before the optimizer, and replicas without a
  // straggler are as fast as ever.
  Scenario s = tiny({"plan.ep=1"});
  const Bandwidth boundless(std::numeric_limits<double>::infinity());
  s.cluster.nic.bandwidth = s.cluster.pcie.bandwidth = s.cluster.nvlink.bandwidth = boundless;
  s.cluster.nic.latency = s.cluster.nvlink.latency = Duration();
  s.cluster.fabric.spine_latency = Duration();
  const double slowness = GENERATE(1.0, 1.3, 4.0);
  const std::uint64_t seed = GENERATE(1U, 2U, 5U);
  s.variation = {.stragglers = 1, .straggler_slowness = slowness, .late_arrivals = 0};
  const PlayableStep step(s, "1f1b", 8);
  const StepTimes times = step.play(seed);

  int slow_rank = 0;
  for (int column = 0; slowness > 1 && column < s.data_parallel(); ++column) {
    const GpuConditions conditions(s, s.plan, step.plan, step.conditions(seed), column);
    for (int rank = 0; rank < step.plan.ranks(); ++rank) {
      if (conditions.chunk(rank, 0, 0, nullptr).slowness > 1) slow_rank = rank;
    }
  }
  const auto makespan = [&](double slower) {
    ChunkBuilder builder(s, s.plan, routing_of(s));
    ScheduleCosts costs;
    for (int stage = 0; stage < s.plan.pp; ++stage) {
      const auto cost = [&](Pass pass) {
        Duration out;
        for (const Task& task : builder.single(pass, stage).tasks) {
          out += scaled(task.times.time.front(), stage == slow_rank ? slower : 1);
        }
        return out;
      };
      costs.passes.push_back({.forward = cost(Pass::kForward),
                              .backward = cost(Pass::kBackward),
                              .backward_input = cost(Pass::kBackwardInput),
                              .backward_weight = cost(Pass::kBackwardWeight)});
    }
    return time_schedule(step.schedule, costs).makespan - Time();
  };
  Duration update;
  for (const OptimizerPlan& optimizer : step.plan.optimizer) {
    update = std::max(update, optimizer.update);
  }
  CAPTURE(slowness, seed, slow_rank);
  REQUIRE(times.time == makespan(slowness) + update);
  // Rank 0 has the last backward of all: of the slow replica and of the others.
  REQUIRE(times.ranks.front().finish.latest == makespan(slowness));
  REQUIRE(times.ranks.front().finish.earliest == makespan(1));
}

TEST_CASE("a GPU's times sum to when it finished, whatever makes GPUs differ", "[column]") {
  for (int column = 0; column < 4; ++column) {
    const ColumnTimes times = uneven_step().play_column(column);
    for (const GpuTimes& gpu : times.gpus) {
      REQUIRE(sum(gpu.breakdown) == gpu.finished - Time());
      for (const Duration share : gpu.breakdown) REQUIRE(share >= Duration());
      REQUIRE(gpu.overlap.hidden + gpu.overlap.exposed == gpu.overlap.communication);
      REQUIRE(gpu.overlap.hidden >= Duration());
      REQUIRE(gpu.overlap.exposed >= Duration());
    }
  }
}

TEST_CASE("a rank's times sum to an uneven step's, and finish in order", "[column]") {
  const StepTimes times = uneven_step().play();
  for (const RankTimes& rank : times.ranks) {
    REQUIRE(sum(rank.breakdown) == times.time);
    REQUIRE(rank.finish.earliest <= rank.finish.mean);
    REQUIRE(rank.finish.mean <= rank.finish.latest);
    REQUIRE(rank.finish.earliest < rank.finish.latest);  // they do differ
    REQUIRE(rank.finish.latest <= times.time);
  }
  for (const RankTimes& rank : balanced_step().play().ranks) {
    REQUIRE(rank.finish.earliest == rank.finish.latest);
    REQUIRE(rank.finish.mean == rank.finish.latest);
  }
}

TEST_CASE("GPUs run their chunks one after the other, exchanges wait for the last GPU",
          "[column][property]") {
  const PlayableStep& step = uneven_step();
  const ColumnTimes times = step.play_column();
  for (std::size_t gpu = 0; gpu < times.gpus.size(); ++gpu) {
    Time before;
    for (const PlayedStep& played : times.record.steps[gpu]) {
      REQUIRE(played.begin >= before);
      REQUIRE(played.end > played.begin);
      before = played.end;
    }
    REQUIRE(before == times.gpus[gpu].finished);
  }
  for (const std::vector<PlayedExchange>& exchanges : times.record.exchanges) {
    Time before;
    for (const PlayedExchange& exchange : exchanges) {
      REQUIRE(exchange.start >= before);
      REQUIRE(exchange.end > exchange.start);
      REQUIRE((exchange.last >= 0 && exchange.last < step.scenario.plan.ep));
      before = exchange.end;
    }
  }
}

TEST_CASE("one replica that stands for all takes nearly as long as all", "[column][folded]") {
  // It goes at the pace of a mean busiest GPU. What its pipeline neighbours draw adds to that, so
  // that it is short where chance is large beside a chunk; and it takes chance that evens out
  // within a chunk for lasting, so that it is long with jitter and unequal speeds.
  struct Band {
    VariationSpec variation;
    double shorter;
    double longer;
  };
  const auto* const concentration = GENERATE("100", "10");
  const PlayableStep full(tiny(dirichlet(concentration)));
  const PlayableStep folded(tiny(dirichlet(concentration)), "dualpipe", 16,
                            SimulationMode::kFolded);
  // The tiny model's chunks are hardly longer than the delays of the measured, large one.
  for (const Band& band :
       {Band{kAlike, 0.01, 0.01}, Band{{.late_arrivals = 0.1}, 0.01, 0.01},
        Band{{.late_arrivals = 1}, 0.04, 0.01}, Band{{.jitter = 0.05, .late_arrivals = 0}, 0, 0.04},
        Band{{.speed_deviation = 0.02, .late_arrivals = 0}, 0, 0.03}}) {
    const double ratio = to_seconds(folded.play_with(band.variation).time) /
                         mean_over_seeds([&](std::uint64_t seed) {
                           return to_seconds(full.play_with(band.variation, seed).time);
                         });
    CAPTURE(concentration, band.variation.late_arrivals, band.variation.jitter, ratio);
    REQUIRE(ratio >= 1 - band.shorter);
    REQUIRE(ratio <= 1 + band.longer);
  }
}

TEST_CASE("DeepSeek-V3's folded step is at most 4 % longer than the full one", "[column][folded]") {
  const Scenario s = shipped("deepseek-v3-h800");
  const auto time = [&](SimulationMode mode) {
    return to_seconds(PlayableStep(s, "dualpipe", 60, mode).play().time);
  };
  const double ratio = time(SimulationMode::kFolded) / time(SimulationMode::kFull);
  CAPTURE(ratio);
  REQUIRE(ratio >= 1);
  REQUIRE(ratio <= 1.04);
}

TEST_CASE("a replica with a straggler that stands for all is slow on all its ranks",
          "[column][folded]") {
  const double slowness = 1.3;
  const VariationSpec slow{.stragglers = 1, .straggler_slowness = slowness, .late_arrivals = 0};
  const PlayableStep folded(punctual(tiny()), "dualpipe", 16, SimulationMode::kFolded);
  const Duration time = folded.play_with(slow).time;
  REQUIRE(time >= balanced_step().play_with(slow).time);
  REQUIRE(time <= scaled(folded.play().time, slowness));
}
