/// One chunk of four MoE layers of DeepSeek-V3 on an H800, kernel by kernel and as its segments.
#include <benchmark/benchmark.h>

#include "reference.hpp"
#include "sim/gpu/chunk.hpp"

namespace {

using namespace pipecast;

/// Drawn once: that takes longer than a chunk.
const RoutingStatistics& drawn() {
  static const RoutingStatistics kDrawn = routing();
  return kDrawn;
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
  ChunkKernels kernels(reference(), reference().plan, drawn());
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
    ChunkKernels kernels(reference(), reference().plan, drawn());
    const std::vector<Launch> launches = kernels.launches(chunk);
    launched = launches.size();
    benchmark::DoNotOptimize(play(launches, kernels.table()));
  }
  count_kernels(state, launched);
}
BENCHMARK(play_pair_from_nothing)->Unit(benchmark::kMicrosecond);

/// The same pair as the cluster plays it.
void play_segments(benchmark::State& state) {
  ChunkBuilder builder(reference(), reference().plan, drawn());
  ChunkProgram program = builder.program(pair_of_layers());
  for (auto _ : state) benchmark::DoNotOptimize(play_alone(program.tasks));
}
BENCHMARK(play_segments)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
