#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "base/random.hpp"
#include "scenarios.hpp"
#include "sim/gpu/chunk.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// The cluster's chunks may differ from the kernel-by-kernel ones by so much (the project's aim).
constexpr double kMostError = 0.01;

/// End of the last kernel.
Duration kernel_by_kernel(ChunkBuilder& builder, const ChunkShape& chunk) {
  ChunkKernels& kernels = builder.kernels();
  Duration end;
  for (const KernelSpan& span : play(kernels.launches(chunk), kernels.table())) {
    end = std::max(end, span.end);
  }
  return end;
}

/// Of balanced chunks, or of others by the curves of the balanced one.
Duration by_segments(ChunkBuilder& builder, const ChunkShape& chunk) {
  ChunkShape balanced = chunk;
  balanced.forward_loads.clear();
  balanced.backward_loads.clear();
  ChunkProgram program = builder.program(balanced);
  if (chunk.forward_loads.empty() && chunk.backward_loads.empty()) return program.alone;
  builder.add_curves(balanced, program);
  std::vector<TaskLoad> loads;
  const auto add = [&](const std::vector<LayerLoad>& layers) {
    for (const LayerLoad& load : layers) {
      loads.push_back(builder.task_load(static_cast<double>(load.routed_tokens),
                                        static_cast<double>(load.received_tokens)));
    }
  };
  const bool pair = chunk.kind == ChunkKind::kOverlapped;
  if (pair || chunk.kind == ChunkKind::kForward) add(chunk.forward_loads);
  if (chunk.kind != ChunkKind::kForward) add(chunk.backward_loads);
  Duration end;
  for (const TaskSpan& span : play_alone(program.tasks, loads.data())) {
    end = std::max(end, span.end - Time());
  }
  return end;
}

double error_of(ChunkBuilder& builder, const ChunkShape& chunk) {
  return std::abs(to_microseconds(by_segments(builder, chunk)) /
                      to_microseconds(kernel_by_kernel(builder, chunk)) -
                  1);
}

double between(Random& random, double low, double high) {
  return low + (high - low) * random.uniform();
}

/// Routing that sends a GPU far fewer or far more rows than balanced routing, and distinct tokens
/// nearly in proportion: rows of one token come together, so that tokens grow more slowly.
std::vector<LayerLoad> random_loads(Random& random, std::size_t layers, const LayerLoad& balanced) {
  std::vector<LayerLoad> out;
  for (std::size_t i = 0; i < layers; ++i) {
    const double rows = between(random, 0.3, 2.5);
    const double received = std::min(1.7, rows * between(random, 0.8, 1.2));
    LayerLoad& load = out.emplace_back(balanced);
    load.routed_tokens = std::llround(static_cast<double>(balanced.routed_tokens) * rows);
    load.received_tokens = std::llround(static_cast<double>(balanced.received_tokens) * received);
  }
  return out;
}

const std::vector<LayerKind>& random_stage(Random& random, const PlanSpec& plan) {
  return plan.pipeline_layout[random.below(plan.pipeline_layout.size())];
}

std::string either_scenario() {
  return GENERATE(as<std::string>{}, "tiny-moe-h100", "deepseek-v3-h800");
}

}  // namespace

TEST_CASE("segments of balanced chunks are within 1 % of their kernels", "[segments]") {
  const Scenario s = shipped(either_scenario());
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (int kind = 0; kind < kChunkKinds; ++kind) {
    for (const auto& forward : s.plan.pipeline_layout) {
      const auto& last = s.plan.pipeline_layout.back();
      for (const auto& backward : {forward, last}) {
        CAPTURE(kind, forward, backward);
        REQUIRE(error_of(builder, {.kind = static_cast<ChunkKind>(kind),
                                   .forward = forward,
                                   .backward = backward}) < kMostError);
      }
    }
  }
}

TEST_CASE("segments of 100 random loads are within 1 % of their kernels, in every kind of chunk",
          "[segments]") {
  const Scenario s = shipped(either_scenario());
  ChunkBuilder builder(s, s.plan, routing_of(s));
  Random random(1, "test_segments");
  for (int i = 0; i < 100; ++i) {
    // Every second one is a pair, of stages with equal or unequal layers.
    const auto kind =
        i % 2 == 0 ? ChunkKind::kOverlapped : static_cast<ChunkKind>(random.below(kChunkKinds - 1));
    ChunkShape chunk{.kind = kind,
                     .forward = random_stage(random, s.plan),
                     .backward = random_stage(random, s.plan)};
    const LayerLoad& balanced = builder.kernels().balanced();
    chunk.forward_loads = random_loads(random, chunk.forward.size(), balanced);
    chunk.backward_loads = random_loads(random, chunk.backward.size(), balanced);
    CAPTURE(i, kind);
    REQUIRE(error_of(builder, chunk) < kMostError);
  }
}

TEST_CASE("the balanced load as one of many gives the balanced chunk", "[segments]") {
  const Scenario s = shipped(either_scenario());
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (int kind = 0; kind < kChunkKinds; ++kind) {
    ChunkShape chunk{.kind = static_cast<ChunkKind>(kind),
                     .forward = s.plan.pipeline_layout.front(),
                     .backward = s.plan.pipeline_layout[1]};
    const Duration balanced = builder.program(chunk).alone;
    chunk.forward_loads.assign(chunk.forward.size(), builder.kernels().balanced());
    chunk.backward_loads.assign(chunk.backward.size(), builder.kernels().balanced());
    REQUIRE(builder.program(chunk).alone == balanced);
  }
}

TEST_CASE("a GPU that receives more takes longer", "[segments]") {
  const Scenario s = shipped(either_scenario());
  ChunkBuilder builder(s, s.plan, routing_of(s));
  const LayerLoad& balanced = builder.kernels().balanced();
  for (int kind = 0; kind < kChunkKinds; ++kind) {
    const std::vector<LayerKind> stage(2, LayerKind::kMoe);
    Duration before;
    for (const int percent : {30, 50, 90, 100, 110, 150, 200, 250}) {
      LayerLoad load = balanced;
      load.routed_tokens = balanced.routed_tokens * percent / 100;
      load.received_tokens = balanced.received_tokens * percent / 100;
      const Duration now = builder
                               .program({.kind = static_cast<ChunkKind>(kind),
                                         .forward = stage,
                                         .backward = stage,
                                         .forward_loads = {load, load},
                                         .backward_loads = {load, load}})
                               .alone;
      REQUIRE(now > before);
      before = now;
    }
  }
}
