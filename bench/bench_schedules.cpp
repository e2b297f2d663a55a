/// Every kind of schedule on 64 ranks with 2,048 micro-batches: generated, checked, timed.
#include <benchmark/benchmark.h>

#include <string>

#include "model/schedules/checker.hpp"
#include "model/schedules/timing.hpp"

namespace {

using namespace pipecast;

void make_check_time(benchmark::State& state, const ScheduleKind& kind) {
  const ScheduleCosts costs{.passes = {{.forward = Duration(10),
                                        .backward = Duration(30),
                                        .backward_input = Duration(18),
                                        .backward_weight = Duration(12),
                                        .overlapped = Duration(34)}}};
  const PipelineShape shape{.ranks = 64, .microbatches = 2'048, .costs = costs};
  for (auto _ : state) {
    const Schedule schedule = kind.make(shape);
    benchmark::DoNotOptimize(check_schedule(schedule));
    benchmark::DoNotOptimize(time_schedule(schedule, costs));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto& kinds = Registry<ScheduleKind>::instance();
  for (const std::string& name : kinds.names()) {
    benchmark::RegisterBenchmark(name.c_str(), make_check_time, kinds.find(name))
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
