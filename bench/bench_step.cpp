/// One training step of DeepSeek-V3 on 2,048 H800, from a loaded scenario to its times.
#include <benchmark/benchmark.h>

#include "app/forecast/forecast.hpp"
#include "reference.hpp"
#include "sim/cluster/step_simulation.hpp"

namespace {

using namespace pipecast;

constexpr int kBatch = 15360;

void draw_routing(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(routing());
}
BENCHMARK(draw_routing)->Unit(benchmark::kMillisecond);

/// Operation lists, kernel costs, chunk programs, loads of every GPU, simulation and memory,
/// nothing memoised.
/// @param clusters  times that the cluster and its batch are larger than the reference case's
void simulate(benchmark::State& state, SimulationMode mode, int clusters, int threads) {
  Scenario scenario = reference();
  scenario.cluster.nodes *= clusters;
  const StepRouting routing = step_routing(scenario, scenario.plan, 0);
  std::uint64_t events = 0;
  for (auto _ : state) {
    const StepForecast step =
        forecast_step(scenario, scenario.plan, kBatch * clusters, routing, mode, 0, threads);
    events += step.times.events;
  }
  state.counters["events/s"] =
      benchmark::Counter(static_cast<double>(events), benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(simulate, folded, SimulationMode::kFolded, 1, 1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(simulate, full, SimulationMode::kFull, 1, 1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(simulate, full_two_threads, SimulationMode::kFull, 1, 2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(simulate, full_16384_gpus, SimulationMode::kFull, 8, 1)
    ->Unit(benchmark::kMillisecond);

/// Loads of the busiest GPUs, their tensors, and every change of every rank's memory over a step.
void memory(benchmark::State& state) {
  const Scenario scenario = reference();
  const StepRouting routing = step_routing(scenario, scenario.plan, 0);
  const StepForecast step =
      forecast_step(scenario, scenario.plan, kBatch, routing, SimulationMode::kFolded);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        step_memory(scenario, scenario.plan, step, routing, SimulationMode::kFolded));
  }
}
BENCHMARK(memory)->Unit(benchmark::kMillisecond);

void load(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        load_scenario(config_directory() / "scenarios/deepseek-v3-h800.yaml", {}));
  }
}
BENCHMARK(load)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
