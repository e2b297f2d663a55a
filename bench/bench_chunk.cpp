/// One chunk of four MoE layers of DeepSeek-V3 on an H800, kernel by kernel and as its segments.
#include <benchmark/benchmark.h>

#include "app/config/load.hpp"
#include "sim/gpu/chunk.hpp"

namespace {

using namespace pipecast;

const Scenario& reference() {
  static const Scenario kScenario =
      load_scenario(config_directory() / "scenarios/deepseek-v3-h800.yaml", {}).scenario;
  return kScenario;
}

const RoutingStatistics& routing() {
  static const RoutingStatistics kRouting =
      balanced_routing(reference().model, reference().plan.ep, reference().cluster.gpus_per_node);
  return kRouting;
}

ChunkShape pair_of_layers() {
  const std::vector<LayerKind> four(4, LayerKind::kMoe);
  return {.kind = ChunkKind::kOverlapped, .forward = four, .backward = four};
}

void count_kernels(benchmark::State& state, std::size_t launches) {
  state.counters["kernels/s"] = benchmark::Counter(static_cast<double>(launches),
                                                   benchmark::Counter::kIsIterationInvariantRate);
}

/// Launches, and how they share the GPU; times of kernels alone are known.
void play_pair(benchmark::State& state) {
  ChunkKernels kernels(reference(), reference().plan, routing());
  const ChunkShape chunk = pair_of_layers();
  std::size_t launched = 0;
  for (auto _ : state) {
    const std::vector<Launch> launches = kernels.launches(chunk);
    launched = launches.size();
    benchmark::DoNotOptimize(play(launches, kernels.table()));
  }
  count_kernels(state, launched);
}
BENCHMARK(play_pair)->Unit(benchmark::kMicrosecond);

/// The same with operation lists and the times of every kernel alone, nothing known.
void play_pair_from_nothing(benchmark::State& state) {
  const ChunkShape chunk = pair_of_layers();
  std::size_t launched = 0;
  for (auto _ : state) {
    ChunkKernels kernels(reference(), reference().plan, routing());
    const std::vector<Launch> launches = kernels.launches(chunk);
    launched = launches.size();
    benchmark::DoNotOptimize(play(launches, kernels.table()));
  }
  count_kernels(state, launched);
}
BENCHMARK(play_pair_from_nothing)->Unit(benchmark::kMicrosecond);

/// The same pair as the cluster plays it.
void play_segments(benchmark::State& state) {
  ChunkBuilder builder(reference(), reference().plan, routing());
  ChunkProgram program = builder.program(pair_of_layers());
  for (auto _ : state) benchmark::DoNotOptimize(play_alone(program.tasks));
}
BENCHMARK(play_segments)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
