/// The hold model: with n events pending, take the first and schedule one. Reports events a second
/// of the engine and of std::priority_queue with the same keys, for comparison.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <queue>
#include <vector>

#include "base/random.hpp"
#include "sim/engine/engine.hpp"

namespace pipecast {
namespace {

/// Delays are drawn beforehand: the benchmark is of the queue, not of the logarithm. A prime number
/// of them, so that no pattern repeats in step with the pending events.
constexpr std::size_t kDelays = 65'521;

enum Distribution : std::int64_t { kExponential, kUniform, kBimodal, kSimultaneous };

std::int64_t draw(Distribution distribution, Random& random) {
  constexpr double kMean = 1e6;  // picoseconds
  switch (distribution) {
    case kExponential:
      return static_cast<std::int64_t>(-kMean * std::log(1 - random.uniform()));
    case kUniform:
      return static_cast<std::int64_t>(2 * kMean * random.uniform());
    case kBimodal:  // nine in ten around a microsecond, one in ten around a second
      return static_cast<std::int64_t>((random.uniform() < 0.9 ? kMean : 1e12) *
                                       (0.5 + random.uniform()));
    case kSimultaneous:  // many actors in step: four different delays
      return static_cast<std::int64_t>(kMean) * static_cast<std::int64_t>(1 + random.below(4));
  }
  return 0;
}

std::vector<Duration> delays(Distribution distribution) {
  Random random(1, "bench_engine");
  std::vector<Duration> out;
  for (std::size_t i = 0; i < kDelays; ++i) out.push_back(Duration(draw(distribution, random)));
  return out;
}

void label(benchmark::State& state) {
  static const char* const kNames[] = {"exponential", "uniform", "bimodal", "simultaneous"};
  state.SetLabel(kNames[state.range(1)]);
}

/// Ends a run of the engine from inside the handler.
struct Enough {};

void hold_engine(benchmark::State& state) {
  const std::vector<Duration> delay = delays(static_cast<Distribution>(state.range(1)));
  const auto pending = static_cast<std::size_t>(state.range(0));
  Engine engine;
  engine.reserve(pending);
  std::size_t draws = 0;
  for (std::size_t i = 0; i < pending; ++i) {
    engine.schedule(Time{} + delay[draws++ % kDelays], EventPhase::kStart, 0, 0);
  }
  const auto hold = [&](std::uint64_t events) {
    const std::uint64_t last = engine.processed() + events;
    try {
      engine.run([&](const Event& event) {
        engine.schedule(event.when + delay[draws++ % kDelays], EventPhase::kStart, event.kind,
                        event.actor);
        if (engine.processed() == last) throw Enough{};
      });
    } catch (const Enough&) {
    }
  };
  hold(3 * pending);  // reach the steady state
  constexpr std::uint64_t kBatch = 1 << 20;
  for (auto iteration : state) hold(kBatch);
  state.SetItemsProcessed(static_cast<std::int64_t>(kBatch) * state.iterations());
  label(state);
}

void hold_binary_heap(benchmark::State& state) {
  const std::vector<Duration> delay = delays(static_cast<Distribution>(state.range(1)));
  const auto later = [](const QueuedEvent& a, const QueuedEvent& b) { return runs_before(b, a); };
  std::priority_queue<QueuedEvent, std::vector<QueuedEvent>, decltype(later)> heap(later);
  std::size_t draws = 0;
  std::uint64_t order = 0;
  const auto push = [&](std::uint64_t now) {
    const auto span = static_cast<std::uint64_t>(delay[draws++ % kDelays].count());
    heap.push({now + span, order++, 0, 0, 0});
  };
  const auto hold = [&](std::uint64_t events) {
    for (std::uint64_t i = 0; i < events; ++i) {
      const QueuedEvent event = heap.top();
      heap.pop();
      push(event.when);
    }
  };
  for (std::int64_t i = 0; i < state.range(0); ++i) push(0);
  hold(3 * static_cast<std::uint64_t>(state.range(0)));
  constexpr std::uint64_t kBatch = 1 << 18;
  for (auto iteration : state) hold(kBatch);
  state.SetItemsProcessed(static_cast<std::int64_t>(kBatch) * state.iterations());
  label(state);
}

void grid(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"pending", "delays"});
  bench->ArgsProduct(
      {{1'000, 16'384, 262'144, 1'000'000}, {kExponential, kUniform, kBimodal, kSimultaneous}});
}

BENCHMARK(hold_engine)->Apply(grid)->Unit(benchmark::kMillisecond);
BENCHMARK(hold_binary_heap)->Apply(grid)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pipecast

BENCHMARK_MAIN();
