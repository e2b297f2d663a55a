#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <optional>

#include "app/forecast/assumptions.hpp"
#include "app/forecast/forecast.hpp"
#include "app/report/result_json.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const ForecastOptions kFolded{.mode = SimulationMode::kFolded};

/// tiny-moe with a ramp before its main phase: 64 to 512 sequences by 64, which are 2, 4, ... 16
/// micro-batches on its 16 data-parallel ranks; and a published phase behind it.
Scenario with_ramp() {
  Scenario s = tiny();
  PhaseSpec ramp = s.recipe.phases.front();
  ramp.name = "ramp";
  ramp.tokens = Tokens(1'000'000'000);
  ramp.global_batch_size = BatchRamp{.from = 64, .to = 512, .increment = 64};
  s.recipe.phases.insert(s.recipe.phases.begin(), ramp);
  PhaseSpec published;
  published.name = "post_training";
  published.gpu_hours = 1000;
  s.recipe.phases.push_back(published);
  return s;
}

double hours_per_token(const Scenario& s, int global_batch) {
  const StepForecast step =
      forecast_step(s, s.plan, global_batch, {routing_of(s), nullptr}, SimulationMode::kFolded);
  return to_seconds(step.times.time) * s.cluster.gpus() / 3600 /
         static_cast<double>(step.tokens.count());
}

std::string dump(const Scenario& s, const ForecastOptions& options) {
  return result_json(s, forecast(s, options), options.mode, 1, {}, {.wall_s = 1}).dump(2);
}

}  // namespace

TEST_CASE("tokens of a step are its sequences", "[forecast]") {
  const Scenario s = tiny();
  const StepForecast step =
      forecast_step(s, s.plan, 512, {routing_of(s), nullptr}, SimulationMode::kFolded);
  REQUIRE(step.tokens == Tokens(512 * 4096));
  REQUIRE(step.microbatches == 512 / 16 / 2);  // 16 data-parallel ranks, two sequences each
}

TEST_CASE("batches too small for DualPipe run its fallback", "[forecast]") {
  const Scenario s = tiny();
  const auto schedule = [&](int global_batch) {
    return forecast_step(s, s.plan, global_batch, {routing_of(s), nullptr}, SimulationMode::kFolded)
        .schedule;
  };
  REQUIRE(schedule(7 * 32) == "1f1b");  // DualPipe on four ranks needs eight micro-batches
  REQUIRE(schedule(8 * 32) == "dualpipe");
  REQUIRE(schedule(9 * 32) == "1f1b");  // and an even number of them
}

TEST_CASE("phases add up to the run", "[forecast]") {
  const Scenario s = with_ramp();
  const Forecast f = forecast(s, kFolded);
  REQUIRE(f.phases.size() == 3);
  double hours = 0;
  double days = 0;
  double cost = 0;
  for (const PhaseForecast& phase : f.phases) {
    REQUIRE(phase.days == Approx(phase.gpu_hours / s.cluster.gpus() / 24));
    REQUIRE(phase.cost.count() == Approx(phase.gpu_hours * s.cost_per_gpu_hour.count()));
    hours += phase.gpu_hours;
    days += phase.days;
    cost += phase.cost.count();
  }
  REQUIRE(f.total.gpu_hours == Approx(hours));
  REQUIRE(f.total.days == Approx(days));
  REQUIRE(f.total.cost.count() == Approx(cost));
  REQUIRE(*f.total.tokens == *s.recipe.phases[0].tokens + *s.recipe.phases[1].tokens);
  REQUIRE_FALSE(f.phases[2].simulated);
  REQUIRE_FALSE(f.phases[2].tokens);
  REQUIRE(f.phases[2].gpu_hours == 1000);
}

TEST_CASE("a constant phase takes its tokens at the step's rate", "[forecast]") {
  const Scenario s = tiny();
  const Forecast f = forecast(s, kFolded);
  const auto tokens = static_cast<double>(s.recipe.phases.front().tokens->count());
  REQUIRE(f.phases.front().gpu_hours == Approx(tokens * hours_per_token(s, 512)));
  REQUIRE(f.gpu_hours_per_trillion_tokens == Approx(1e12 * hours_per_token(s, 512)));
  REQUIRE(f.days_per_trillion_tokens ==
          Approx(f.gpu_hours_per_trillion_tokens / s.cluster.gpus() / 24));
}

TEST_CASE("a ramp spends equal tokens at each of its sizes", "[forecast]") {
  const Scenario s = with_ramp();
  const Forecast f = forecast(s, kFolded);
  double sum = 0;
  for (int size = 64; size <= 512; size += 64) sum += hours_per_token(s, size);
  const auto tokens = static_cast<double>(s.recipe.phases.front().tokens->count());
  REQUIRE(f.phases.front().gpu_hours == Approx(tokens * sum / 8));
}

TEST_CASE("a ramp's last step may be shorter than its increment", "[forecast]") {
  Scenario s = with_ramp();
  s.recipe.phases.front().global_batch_size = BatchRamp{.from = 64, .to = 128, .increment = 96};
  const auto tokens = static_cast<double>(s.recipe.phases.front().tokens->count());
  REQUIRE(forecast(s, kFolded).phases.front().gpu_hours ==
          Approx(tokens * (hours_per_token(s, 64) + hours_per_token(s, 128)) / 2));
}

TEST_CASE("a phase's own plan counts, its pipeline ranks too", "[forecast]") {
  Scenario of_scenario = tiny();
  PlanSpec& plan = of_scenario.plan;
  plan.pp = 2;
  plan.pipeline_layout = {{LayerKind::kEmbedding, LayerKind::kMoe},
                          {LayerKind::kMoe, LayerKind::kHead}};
  of_scenario.recipe.phases.front().plan = plan;
  Scenario of_phase = tiny();
  of_phase.recipe.phases.front().plan = plan;
  const Forecast a = forecast(of_scenario, {});
  const Forecast b = forecast(of_phase, {});
  REQUIRE(a.step.microbatches == 512 / 32 / 2);  // 64 GPUs / 2 pipeline ranks
  REQUIRE(b.step.microbatches == a.step.microbatches);
  REQUIRE(b.step.times.simulated_gpus == 64);
  REQUIRE(b.step.times.time == a.step.times.time);
  REQUIRE(b.memory.peak(0).totals == a.memory.peak(0).totals);
}

TEST_CASE("the main phase is the one with the most tokens", "[forecast]") {
  Scenario s = with_ramp();
  REQUIRE(forecast(s, kFolded).step.tokens == Tokens(512 * 4096));
  s.recipe.phases.front().global_batch_size->to = 256;
  s.recipe.phases.front().tokens = Tokens(100'000'000'000);
  REQUIRE(forecast(s, kFolded).step.tokens == Tokens(256 * 4096));
}

TEST_CASE("intervals hold what they are intervals of", "[forecast]") {
  const Scenario s = with_ramp();
  const Forecast f = forecast(s, kFolded);
  for (const Interval& i : {f.step_time_s, f.gpu_hours_per_trillion, f.cost_usd}) {
    REQUIRE(i.low < i.expected);
    REQUIRE(i.expected < i.high);
  }
  REQUIRE(f.step_time_s.expected == to_seconds(f.step.times.time));
  REQUIRE(f.gpu_hours_per_trillion.expected == f.gpu_hours_per_trillion_tokens);
  REQUIRE(f.cost_usd.expected == f.total.cost.count());
  // Published hours are no assumption of ours: they do not widen the interval of the cost.
  const double published = 1000 * s.cost_per_gpu_hour.count();
  const double spread = f.step_time_s.high / f.step_time_s.expected;
  REQUIRE(f.cost_usd.high == Approx(published + (f.cost_usd.expected - published) * spread));
}

TEST_CASE("constants without a range leave no interval", "[forecast]") {
  Scenario s = tiny();
  for (const NamedConstant& named : constants_of(s.calibration))
    named.constant->low = named.constant->high = named.constant->value;
  const Forecast f = forecast(s, kFolded);
  REQUIRE(f.step_time_s.low == f.step_time_s.expected);
  REQUIRE(f.step_time_s.high == f.step_time_s.expected);
}

TEST_CASE("a better resource never makes the step longer, nor shorter than in proportion",
          "[forecast]") {
  const Forecast f = forecast(tiny(), kFolded);
  REQUIRE(f.sensitivities.size() == resources().size());
  double all = 0;
  for (const Sensitivity& s : f.sensitivities) {
    CAPTURE(s.resource);
    REQUIRE(s.step_percent_per_percent <= 0);
    all += s.step_percent_per_percent;
  }
  // If everything were 1 % better, the step would be at most 1 % shorter.
  REQUIRE(all >= -1);
  REQUIRE(f.sensitivities.front().resource == "tensor_cores");
  REQUIRE(f.sensitivities.front().step_percent_per_percent < 0);
}

TEST_CASE("every constant of the calibration is an assumption with its range", "[forecast]") {
  Scenario s = tiny();
  const std::vector<Assumption> assumptions = assumptions_of(s, s.plan);
  for (const NamedConstant& named : constants_of(s.calibration)) {
    CAPTURE(named.name);
    const auto it = std::find_if(assumptions.begin(), assumptions.end(), [&](const Assumption& a) {
      return a.key == "calibration." + named.name;
    });
    REQUIRE(it != assumptions.end());
    REQUIRE(it->low == named.constant->low);
    REQUIRE(it->high == named.constant->high);
    REQUIRE(it->reason == named.constant->source);
  }
}

TEST_CASE("utilisation is the FLOPs that a token is worth over the BF16 peak", "[forecast]") {
  const Scenario s = tiny();
  const Forecast f = forecast(s, kFolded);
  const Throughput& t = f.throughput;
  const double peak = s.cluster.gpu.tensor_peak(Precision::kBf16, s.cluster.gpu.sm_count).count();
  const double tokens_per_gpu_second =
      static_cast<double>(f.step.tokens.count()) / to_seconds(f.step.times.time) / s.cluster.gpus();
  REQUIRE(t.tflops_per_gpu_causal * 1e12 ==
          Approx(t.flop_per_token_causal.count() * tokens_per_gpu_second));
  REQUIRE(t.mfu_causal == Approx(t.tflops_per_gpu_causal * 1e12 / peak));
  REQUIRE(t.mfu_noncausal == Approx(t.tflops_per_gpu_noncausal * 1e12 / peak));
  REQUIRE(t.mfu_causal < t.mfu_noncausal);
  REQUIRE(t.mfu_noncausal < 1);
}

TEST_CASE("a forecast does not depend on the number of threads, nor on the run", "[forecast]") {
  const Scenario s = with_ramp();
  ForecastOptions options{.mode = SimulationMode::kFull};
  const std::string one = dump(s, options);
  options.threads = GENERATE(1, 2, 4);
  REQUIRE(dump(s, options) == one);
}

TEST_CASE("an uneven forecast is the same text on any number of threads, for another seed another",
          "[forecast]") {
  // Two columns of GPUs that differ in every way; no ranges, whose ends would be simulated as well.
  Scenario s = tiny({"plan.ep=8", "routing.distribution=dirichlet", "routing.concentration=10",
                     "variation.speed_deviation=0.02", "variation.jitter=0.05",
                     "variation.stragglers=1", "variation.straggler_slowness=1.2"});
  for (const NamedConstant& named : ranges_of(s))
    named.constant->low = named.constant->high = named.constant->value;
  ForecastOptions options{.mode = SimulationMode::kFull, .seed = 1};
  const std::string one = dump(s, options);
  for (const int threads : {2, 4}) {
    CAPTURE(threads);
    options.threads = threads;
    REQUIRE(dump(s, options) == one);
  }
  options.seed = 2;
  REQUIRE(dump(s, options) != one);
}

TEST_CASE("the simulator's events are those of every simulated step", "[forecast]") {
  Scenario s = tiny();
  for (const NamedConstant& named : constants_of(s.calibration))
    named.constant->low = named.constant->high = named.constant->value;
  const Forecast f = forecast(s, kFolded);
  const auto events = [](const Scenario& varied) {
    return forecast_step(varied, varied.plan, 512, {routing_of(varied), nullptr},
                         SimulationMode::kFolded)
        .times.events;
  };
  // The step; once more as the base of the variations; once for each improved resource; once with
  // nobody late.
  std::uint64_t sum = 2 * events(s);
  for (const Resource& resource : resources()) {
    Scenario better = s;
    resource.improve(better.cluster, 1.01);
    sum += events(better);
  }
  sum += events(punctual(s));
  REQUIRE(f.events == sum);
}

TEST_CASE("progress ends at the whole", "[forecast]") {
  double last = 0;
  ForecastOptions options = kFolded;
  options.progress = [&](std::string_view, double fraction) { last = fraction; };
  forecast(tiny(), options);
  REQUIRE(last == 1);
}

TEST_CASE("every byte of a step is freed or persistent in every shipped scenario", "[memory]") {
  const std::filesystem::path folder =
      std::filesystem::path(PIPECAST_SOURCE_DIR) / "configs" / "scenarios";
  int scenarios = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".yaml") continue;
    CAPTURE(entry.path().string());
    ++scenarios;
    const Scenario s = load_scenario(entry.path(), {}).scenario;
    const PhaseSpec& main = main_phase(s.recipe);
    const StepRouting routing = step_routing(s, main.plan, 1);
    const StepForecast step =
        forecast_step(s, main.plan, main.global_batch_size->to, routing, SimulationMode::kFolded);
    const StepMemory memory = step_memory(s, main.plan, step, routing, SimulationMode::kFolded);
    for (int rank = 0; rank < memory.ranks(); ++rank) {
      std::optional<MemoryTotals> first;
      MemoryTotals last;
      Bytes most;
      memory.play(rank, [&](Time, const MemoryTotals& totals) {
        if (!first) first = totals;
        last = totals;
        most = std::max(most, totals.total());
      });
      REQUIRE(first.has_value());
      REQUIRE(last == *first);
      REQUIRE(most == memory.peak(rank).totals.total());
      Bytes tensors;
      for (const MemoryTensor& t : memory.tensors_at_peak(rank)) tensors += t.bytes;
      REQUIRE(tensors == most);
    }
  }
  REQUIRE(scenarios >= 20);
}

TEST_CASE("a rank that does not fit says when, how much is missing and what takes it",
          "[forecast]") {
  Scenario s = tiny();
  const Forecast fits = forecast(s, kFolded);
  int fullest = 0;
  for (int rank = 1; rank < fits.memory.ranks(); ++rank) {
    if (fits.memory.peak(rank).totals.total() > fits.memory.peak(fullest).totals.total()) {
      fullest = rank;
    }
  }
  const Bytes needed = fits.memory.peak(fullest).totals.total();
  const Bytes reserve = s.plan.memory.reserve;
  s.cluster.gpu.hbm_capacity = needed + reserve;
  REQUIRE_NOTHROW(forecast(s, kFolded));
  s.cluster.gpu.hbm_capacity -= Bytes(1);
  REQUIRE_THROWS_AS(forecast(s, kFolded), DoesNotFit);
  s.cluster.gpu.hbm_capacity = Bytes(1'000'000'000) + reserve;
  const double gigabytes = static_cast<double>(needed.count()) / 1e9;
  REQUIRE_THROWS_WITH(
      forecast(s, kFolded),
      Catch::StartsWith(fmt::format("pipeline rank {} does not fit: {:.1f} GB too much. When it "
                                    "runs ",
                                    fullest, gigabytes - 1)) &&
          Catch::Contains(fmt::format("it holds {:.1f} GB (weights ", gigabytes)) &&
          Catch::EndsWith("a h100 has 5.0 GB, less a reserve of 4.0 GB"));
}

TEST_CASE("of several impossible batches the first is named, on any number of threads",
          "[forecast]") {
  Scenario s = with_ramp();
  s.recipe.phases.front().plan.fallback_schedule.clear();
  ForecastOptions options = kFolded;
  options.threads = GENERATE(1, 2, 4);
  // 64 sequences are two micro-batches; 128 and 192 sequences fail as well.
  REQUIRE_THROWS_WITH(forecast(s, options),
                      Catch::StartsWith("dualpipe: 2 micro-batches on 4 ranks; it needs"));
}

TEST_CASE("a recipe of published phases alone has no step", "[forecast]") {
  Scenario s = with_ramp();
  s.recipe.phases.erase(s.recipe.phases.begin(), s.recipe.phases.begin() + 2);
  REQUIRE_THROWS_WITH(
      forecast(s, kFolded),
      "recipe.phases: no phase has tokens and a batch size, so there is no step to simulate");
}
