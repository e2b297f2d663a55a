/// Chunks whose backward runs the forward again.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <string>

#include "cluster/playable_step.hpp"
#include "sim/gpu/chunk.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const std::string kNone = "plan.recompute_modules=none";
const std::string kFull = "plan.recompute_modules=full";

std::string either_scenario() {
  return GENERATE(as<std::string>{}, "tiny-moe-h100", "deepseek-v3-h800");
}

bool has_backward(ChunkKind kind) {
  return kind == ChunkKind::kBackward || kind == ChunkKind::kBackwardInput ||
         kind == ChunkKind::kOverlapped;
}

/// The stages of a plan that differ most, as forward and as backward.
std::vector<ChunkShape> shapes_of(const Scenario& s) {
  const PipelineLayout& layout = s.plan.pipeline_layout;
  std::vector<ChunkShape> out;
  for (int kind = 0; kind < kChunkKinds; ++kind) {
    for (const auto& forward : {layout.front(), layout[1]}) {
      for (const auto& backward : {layout.front(), layout[1], layout.back()}) {
        out.push_back(
            {.kind = static_cast<ChunkKind>(kind), .forward = forward, .backward = backward});
      }
    }
  }
  return out;
}

bool is_forward(Phase phase) { return phase <= Phase::kCombineForward; }

bool runs_again(const ChunkPhase& phase) { return is_forward(phase.phase) && !phase.forward; }

/// A layer's forward alone, as one that backward passes repeat: the embedding's is not.
std::vector<LayerKind> repeated(const std::vector<LayerKind>& stage) {
  std::vector<LayerKind> out = stage;
  std::erase(out, LayerKind::kEmbedding);
  return out;
}

using Work = std::map<std::string, int>;

/// Kernels of a chunk by name and extents, how many of each.
Work work_of(ChunkKernels& kernels, const ChunkShape& chunk) {
  Work out;
  for (const Launch& launch : kernels.launches(chunk)) {
    const Operation& o = kernels.table().at(launch.kernel).operation;
    ++out[fmt::format("{} {} {} {} {}", o.op, o.label, o.m, o.n, o.k)];
  }
  return out;
}

double flops_of(ChunkKernels& kernels, const ChunkShape& chunk) {
  double out = 0;
  for (const Launch& launch : kernels.launches(chunk)) {
    out += kernels.table().at(launch.kernel).operation.flops.count();
  }
  return out;
}

/// One plan without and one with full recomputation.
struct Both {
  explicit Both(const std::string& name)
      : none(shipped(name, {kNone})),
        full(shipped(name, {kFull})),
        of_none(none, none.plan, routing_of(none)),
        of_full(full, full.plan, routing_of(full)) {}

  Scenario none;
  Scenario full;
  ChunkBuilder of_none;
  ChunkBuilder of_full;
};

/// Time of the tasks of one stream where nothing is beside them.
Duration undisturbed(const ChunkProgram& program, bool communication) {
  Duration sum;
  for (const Task& task : program.tasks) {
    if (task.communication == communication) sum += task.times.time.front();
  }
  return sum;
}

double microseconds(Duration time) { return to_microseconds(time); }

}  // namespace

TEST_CASE("full recomputation runs each layer's forward before its input gradient, in its pass",
          "[chunk][recompute]") {
  const Both both(either_scenario());
  for (const ChunkShape& shape : shapes_of(both.full)) {
    const std::vector<ChunkPhase> without = phases_of(shape, both.none.plan);
    std::vector<ChunkPhase> with = phases_of(shape, both.full.plan);
    const std::size_t layers = has_backward(shape.kind) ? repeated(shape.backward).size() : 0;
    REQUIRE(with.size() == without.size() + 4 * layers);
    std::size_t again = 0;
    for (std::size_t i = 0; i < with.size(); ++i) {
      if (!runs_again(with[i])) continue;
      // The four phases in order, then the layer's first gradient.
      REQUIRE(with[i].phase == static_cast<Phase>(again++ % 4));
      REQUIRE_FALSE(with[i].weight);
      REQUIRE(with[i].kind != LayerKind::kEmbedding);
      const auto gradient = std::find_if(with.begin(), with.end(), [&](const ChunkPhase& phase) {
        return phase.layer == with[i].layer && !is_forward(phase.phase);
      });
      REQUIRE(gradient - with.begin() > static_cast<std::ptrdiff_t>(i));
      REQUIRE(gradient->kind == with[i].kind);
      REQUIRE(gradient->load == with[i].load);
    }
    REQUIRE(again == 4 * layers);
    std::erase_if(with, runs_again);
    for (std::size_t i = 0; i < with.size(); ++i) {
      REQUIRE(with[i].phase == without[i].phase);
      REQUIRE(with[i].kind == without[i].kind);
      REQUIRE(with[i].layer == without[i].layer);
      REQUIRE(with[i].forward == without[i].forward);
    }
  }
}

TEST_CASE("a full recomputation is the kernels and the FLOPs of the forward once more",
          "[chunk][recompute]") {
  Both both(either_scenario());
  ChunkKernels& none = both.of_none.kernels();
  ChunkKernels& full = both.of_full.kernels();
  for (const ChunkShape& shape : shapes_of(both.full)) {
    Work expected = work_of(none, shape);
    double flops = flops_of(none, shape);
    if (has_backward(shape.kind)) {
      const ChunkShape forward{
          .kind = ChunkKind::kForward, .forward = repeated(shape.backward), .backward = {}};
      for (const auto& [kernel, count] : work_of(none, forward)) expected[kernel] += count;
      flops += flops_of(none, forward);
    }
    REQUIRE(work_of(full, shape) == expected);
    REQUIRE(flops_of(full, shape) == Approx(flops));
  }
}

TEST_CASE("a backward with full recomputation takes longer by the forward", "[chunk][recompute]") {
  Both both(either_scenario());
  for (const auto& stage : both.none.plan.pipeline_layout) {
    const ChunkShape again{.kind = ChunkKind::kForward, .forward = repeated(stage), .backward = {}};
    const ChunkProgram forward = both.of_none.program(again);
    ChunkShape shape{.kind = ChunkKind::kBackwardInput, .forward = {}, .backward = stage};
    // One phase after the other: nothing overlaps.
    const ChunkProgram input = both.of_full.program(shape);
    const ChunkProgram input_before = both.of_none.program(shape);
    REQUIRE(microseconds(input.alone) == Approx(microseconds(input_before.alone + forward.alone)));
    REQUIRE(microseconds(input.compute) ==
            Approx(microseconds(input_before.compute + forward.compute)));

    // Weight gradients of the attention no longer hide the next layer's first exchange.
    shape.kind = ChunkKind::kBackward;
    const ChunkProgram both_gradients = both.of_full.program(shape);
    const ChunkProgram before = both.of_none.program(shape);
    REQUIRE(both_gradients.alone >= before.alone + forward.alone);
    shape.kind = ChunkKind::kBackwardWeight;
    const ChunkProgram weight = both.of_full.program(shape);
    REQUIRE(both_gradients.alone <= before.alone + forward.alone + weight.alone);

    // Weight gradients by themselves find what the input gradients left.
    REQUIRE(weight.alone == both.of_none.program(shape).alone);
    REQUIRE(weight.nic_bytes == Bytes(0));
    shape = {.kind = ChunkKind::kForward, .forward = stage, .backward = {}};
    REQUIRE(both.of_full.program(shape).alone == both.of_none.program(shape).alone);
  }
}

TEST_CASE("a recomputation sends what the forward sends", "[chunk][recompute]") {
  Both both(either_scenario());
  for (const ChunkShape& shape : shapes_of(both.full)) {
    const ChunkProgram with = both.of_full.program(shape);
    const ChunkProgram without = both.of_none.program(shape);
    const ChunkProgram forward = both.of_none.program(
        {.kind = ChunkKind::kForward, .forward = repeated(shape.backward), .backward = {}});
    const bool again = has_backward(shape.kind);
    // Rounded to bytes once a chunk.
    const auto sent = [&](Bytes ChunkProgram::*bytes) {
      const auto of_forward = again ? forward.*bytes : Bytes(0);
      return std::abs((with.*bytes - (without.*bytes + of_forward)).count());
    };
    REQUIRE(sent(&ChunkProgram::nic_bytes) <= 1);
    REQUIRE(sent(&ChunkProgram::nvlink_bytes) <= 1);
    if (!again) continue;
    REQUIRE(with.alone > without.alone);
    // Beside nothing its work takes the forward's time; in a pair, on fewer SMs, more.
    const Duration work = undisturbed(without, false) + undisturbed(forward, false);
    REQUIRE(with.compute >= undisturbed(with, false));
    REQUIRE(undisturbed(with, true) == undisturbed(without, true) + undisturbed(forward, true));
    if (shape.kind != ChunkKind::kOverlapped) {
      REQUIRE(undisturbed(with, false) == work);
      continue;
    }
    REQUIRE(undisturbed(with, false) >= work);
    ChunkShape half = shape;
    half.kind = ChunkKind::kForward;
    const Duration one = both.of_full.program(half).alone;
    half.kind = ChunkKind::kBackward;
    const Duration other = both.of_full.program(half).alone;
    REQUIRE(with.alone >= std::max(one, other));
  }
}

TEST_CASE("a recomputed layer has the load of its backward", "[chunk][recompute]") {
  const Scenario s = shipped(either_scenario(), {kFull});
  ChunkBuilder builder(s, s.plan, routing_of(s));
  const std::vector<LayerKind> stage(2, LayerKind::kMoe);
  ChunkShape pair{.kind = ChunkKind::kOverlapped, .forward = stage, .backward = stage};
  std::map<int, int> exchanges;  // by slot
  int last = -1;
  for (const Task& task : builder.program(pair).tasks) {
    if (task.collective) ++exchanges[task.slot];
    if (task.phase == Phase::kCombineBackward && task.collective) {
      // Backwards go through their layers from the last.
      REQUIRE(task.slot != last);
      last = task.slot;
    }
  }
  REQUIRE(exchanges == std::map<int, int>{{0, 2}, {1, 2}, {2, 4}, {3, 4}});
  REQUIRE(last == 2);

  // Kernel by kernel, and by the curves of the balanced chunk.
  const LayerLoad& even = builder.kernels().balanced();
  LayerLoad more = even;
  more.routed_tokens *= 2;
  more.received_tokens = more.received_tokens * 3 / 2;
  pair.forward_loads = {even, even};
  pair.backward_loads = {even, more};
  Duration kernels;
  for (const KernelSpan& span : play(builder.kernels().launches(pair), builder.kernels().table())) {
    kernels = std::max(kernels, span.end);
  }
  ChunkShape balanced = pair;
  balanced.forward_loads.clear();
  balanced.backward_loads.clear();
  ChunkProgram program = builder.program(balanced);
  builder.add_curves(balanced, program);
  const auto task_load = [&](const LayerLoad& load) {
    return builder.task_load(static_cast<double>(load.routed_tokens),
                             static_cast<double>(load.received_tokens));
  };
  const std::vector<TaskLoad> loads = {task_load(even), task_load(even), task_load(even),
                                       task_load(more)};
  Duration segments;
  for (const TaskSpan& span : play_alone(program.tasks, loads.data())) {
    segments = std::max(segments, span.end - Time());
  }
  REQUIRE(segments > program.alone);
  REQUIRE(microseconds(segments) == Approx(microseconds(kernels)).epsilon(0.01));
}

TEST_CASE("segments of chunks with full recomputation are within 1 % of their kernels",
          "[segments][recompute]") {
  const Scenario s = shipped(either_scenario(), {kFull});
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (const ChunkShape& shape : shapes_of(s)) {
    Duration kernels;
    for (const KernelSpan& span :
         play(builder.kernels().launches(shape), builder.kernels().table())) {
      kernels = std::max(kernels, span.end);
    }
    CAPTURE(shape.kind, shape.forward.size(), shape.backward.size());
    REQUIRE(microseconds(builder.program(shape).alone) ==
            Approx(microseconds(kernels)).epsilon(0.01));
  }
}

TEST_CASE("a step runs with every recomputation and format, the more of it the longer",
          "[step][recompute]") {
  const auto mode = GENERATE(SimulationMode::kFolded, SimulationMode::kFull);
  const std::string schedule = GENERATE(as<std::string>{}, "dualpipe", "1f1b", "zb-h1");
  CAPTURE(schedule);
  const auto time = [&](const std::vector<std::string>& sets) {
    std::vector<std::string> all = dirichlet("10");
    all.insert(all.end(), sets.begin(), sets.end());
    return PlayableStep(tiny(all), schedule, 8, mode).play().time;
  };
  const Duration none = time({kNone});
  const Duration selective = time({"plan.recompute_modules=selective"});
  const Duration listed =
      time({"plan.recompute_modules=[layernorm, mla_up_proj, moe_act, core_attn]"});
  const Duration full = time({kFull});
  REQUIRE(selective > none);
  REQUIRE(listed > selective);
  REQUIRE(full > listed);
  for (const char* format : {"gemm", "fp8", "bf16"}) {
    REQUIRE(time({kNone, fmt::format("plan.precision.activations={}", format)}) < full);
  }
  for (const char* format : {"e5m6", "fp8", "bf16"}) {
    REQUIRE(time({kNone, fmt::format("plan.precision.attention_output={}", format)}) < selective);
  }
}
