#include <algorithm>
#include <catch2/catch.hpp>
#include <iterator>
#include <optional>

#include "model/collectives/reduction.hpp"
#include "model/ops/kernel_cost.hpp"
#include "scenarios.hpp"
#include "sim/gpu/chunk.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

std::string stage(int n) { return "plan.zero_stage=" + std::to_string(n); }

/// Time and bytes of one collective over the replicas of a layer, by its definition.
struct Move {
  Duration time;
  Bytes nic;
  Bytes nvlink;
};
Move move_of(const Scenario& s, LayerKind kind, Precision precision, int holders = 1) {
  const Placement placement(s.cluster, s.data_parallel());
  const HeldParameters held = parameters_of_stage(s.model, {kind}, s.plan.ep);
  Move out;
  for (const auto& [parameters, group] :
       {std::pair{held.replicated(), placement.group(holders, 1)},
        std::pair{held.expert, placement.group(holders, s.plan.ep)}}) {
    const Bytes size = stored_bytes(precision, 1, parameters);
    out.time += reduction_time(size, group, s.cluster, s.calibration);
    out.nic += reduction_load(size, group).nic;
    out.nvlink += reduction_load(size, group).nvlink;
  }
  return out;
}
Move gather_of(const Scenario& s, LayerKind kind, int holders = 1) {
  return move_of(s, kind, s.plan.precision.parameter_gather, holders);
}
Move reduction_of(const Scenario& s, LayerKind kind, int holders = 1) {
  return move_of(s, kind, s.plan.precision.gradients, holders);
}

template <class Of>
Move sum(const std::vector<LayerKind>& layers, Of&& of) {
  Move out;
  for (const LayerKind kind : layers) {
    const Move one = of(kind);
    out.time += one.time;
    out.nic += one.nic;
    out.nvlink += one.nvlink;
  }
  return out;
}

std::vector<ChunkShape> shapes_of(const Scenario& s) {
  ChunkBuilder builder(s, s.plan, routing_of(s));
  std::vector<ChunkShape> out;
  for (int n = 0; n < s.plan.pp; ++n) {
    for (const Pass pass :
         {Pass::kForward, Pass::kBackward, Pass::kBackwardInput, Pass::kBackwardWeight})
      out.push_back(builder.single_shape(pass, n));
    for (int other = 0; other < s.plan.pp; ++other)
      out.push_back(builder.overlapped_shape(n, other));
  }
  return out;
}

bool gathers(ChunkKind kind) { return kind != ChunkKind::kBackwardWeight; }
bool reduces(ChunkKind kind) {
  return kind != ChunkKind::kForward && kind != ChunkKind::kBackwardInput;
}

/// Layers that a chunk gathers: a lookup has no input gradient.
std::vector<LayerKind> gathered_layers(const ChunkShape& shape) {
  std::vector<LayerKind> out;
  if (shape.kind == ChunkKind::kForward || shape.kind == ChunkKind::kOverlapped)
    out = shape.forward;
  if (shape.kind == ChunkKind::kForward || !gathers(shape.kind)) return out;
  std::copy_if(shape.backward.begin(), shape.backward.end(), std::back_inserter(out),
               [](LayerKind kind) { return kind != LayerKind::kEmbedding; });
  return out;
}

Scenario with_sharding(int zero, bool overlap = true) {
  return tiny(
      {stage(zero), std::string("plan.overlap.communication=") + (overlap ? "true" : "false")});
}

bool is_move(const Task& task) { return task.move != ShardMove::kNone; }

}  // namespace

TEST_CASE("what is moved in a chunk is each layer's weights once a pass, and its gradients once",
          "[zero]") {
  const int zero = GENERATE(0, 1, 2, 3);
  const Scenario s = tiny({stage(zero)});
  const Scenario plain = tiny();
  ChunkBuilder builder(s, s.plan, routing_of(s));
  ChunkBuilder reference(plain, plain.plan, routing_of(plain));
  for (const ChunkShape& shape : shapes_of(s)) {
    CAPTURE(zero, name_of(shape.kind));
    const ChunkProgram program = builder.program(shape);
    const ChunkProgram without = reference.program(shape);
    Move moved;
    if (zero == 3 && gathers(shape.kind)) {
      moved = sum(gathered_layers(shape), [&](LayerKind k) { return gather_of(s, k); });
    }
    if (zero >= 2 && reduces(shape.kind)) {
      const Move reduced = sum(shape.backward, [&](LayerKind k) { return reduction_of(s, k); });
      moved.time += reduced.time;
      moved.nic += reduced.nic;
      moved.nvlink += reduced.nvlink;
    }
    REQUIRE(program.moves == moved.time);
    REQUIRE(program.nic_bytes == without.nic_bytes + moved.nic);
    REQUIRE(program.nvlink_bytes == without.nvlink_bytes + moved.nvlink);
    const auto count = std::count_if(program.tasks.begin(), program.tasks.end(), is_move);
    REQUIRE(program.tasks.size() == without.tasks.size() + static_cast<std::size_t>(count));
    REQUIRE((count > 0) == (moved.time > Duration()));
  }
}

TEST_CASE("the more is sharded, the longer a chunk takes", "[zero]") {
  const bool overlap = GENERATE(true, false);
  std::vector<Scenario> scenarios;
  for (const int zero : {1, 2, 3}) scenarios.push_back(with_sharding(zero, overlap));
  for (const ChunkShape& shape : shapes_of(scenarios.front())) {
    CAPTURE(overlap, name_of(shape.kind));
    Duration before;
    for (const Scenario& s : scenarios) {
      const ChunkProgram program = ChunkBuilder(s, s.plan, routing_of(s)).program(shape);
      REQUIRE(program.alone >= before);
      before = program.alone;
    }
  }
}

TEST_CASE("where nothing overlaps, moves add their times", "[zero]") {
  const int zero = GENERATE(2, 3);
  const Scenario s = with_sharding(zero, false);
  const Scenario plain = with_sharding(1, false);
  ChunkBuilder builder(s, s.plan, routing_of(s));
  ChunkBuilder reference(plain, plain.plan, routing_of(plain));
  for (const ChunkShape& shape : shapes_of(s)) {
    const ChunkProgram program = builder.program(shape);
    REQUIRE(program.alone == reference.program(shape).alone + program.moves);
  }
}

TEST_CASE("no task begins before its layer's weights are there and after gradients have gone",
          "[zero]") {
  const Scenario s = tiny({stage(3)});
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (const ChunkShape& shape : shapes_of(s)) {
    CAPTURE(name_of(shape.kind));
    const ChunkProgram program = builder.program(shape);
    const std::vector<TaskSpan> spans = play_alone(program.tasks);
    // By pass: layers of a pass have their slots in order, a backward's from the last one.
    for (const bool forward : {true, false}) {
      const bool pair = shape.kind == ChunkKind::kOverlapped;
      if (forward ? !pair && shape.kind != ChunkKind::kForward : shape.kind == ChunkKind::kForward)
        continue;
      const auto first = forward || !pair ? 0 : static_cast<int>(shape.forward.size());
      const auto layers = static_cast<int>((forward ? shape.forward : shape.backward).size());
      const auto of_pass = [&](const Task& task, ShardMove move) {
        return task.move == move && (move == ShardMove::kReduceScatter ||
                                     (task.phase == Phase::kAttentionForward) == forward);
      };
      std::vector<TaskSpan> gathered;
      std::vector<TaskSpan> reduced;
      for (std::size_t i = 0; i < spans.size(); ++i) {
        if (of_pass(program.tasks[i], ShardMove::kAllGather)) {
          // Moves carry their layer's slot.
          const auto layer = static_cast<int>(gathered.size());
          REQUIRE(program.tasks[i].slot == first + (forward ? layer : layers - 1 - layer));
          gathered.push_back(spans[i]);
        }
        if (!forward && of_pass(program.tasks[i], ShardMove::kReduceScatter))
          reduced.push_back(spans[i]);
      }
      const auto& kinds = forward ? shape.forward : shape.backward;
      const auto without_weights =
          forward ? 0 : std::count(kinds.begin(), kinds.end(), LayerKind::kEmbedding);
      REQUIRE(gathered.size() ==
              (gathers(shape.kind) ? kinds.size() - static_cast<std::size_t>(without_weights) : 0));
      REQUIRE(reduced.size() ==
              (!forward && reduces(shape.kind) ? static_cast<std::size_t>(layers) : 0));
      std::optional<Time> before;  // when the layer two before was done with its weights
      std::optional<Time> previous;
      for (int layer = 0; layer < layers; ++layer) {
        const int slot = first + (forward ? layer : layers - 1 - layer);
        const auto place = static_cast<std::size_t>(layer);
        std::optional<Time> begin;
        std::optional<Time> end;
        for (std::size_t i = 0; i < spans.size(); ++i) {
          const Task& task = program.tasks[i];
          if (task.slot != slot || task.move != ShardMove::kNone) continue;
          const bool weight =
              task.phase == Phase::kMlpWeight || task.phase == Phase::kAttentionWeight;
          if (weight && !reduced.empty()) REQUIRE(spans[i].end <= reduced[place].start);
          if (weight) continue;
          if (!begin) begin = spans[i].start;
          end = spans[i].end;
        }
        if (place >= gathered.size()) continue;
        REQUIRE(begin);
        REQUIRE(*begin >= gathered[place].end);
        // One layer ahead, no more.
        if (before) REQUIRE(gathered[place].start >= *before);
        before = previous;
        previous = end;
      }
    }
  }
}

TEST_CASE("gathers hide behind computation that is longer, all but the first", "[zero]") {
  // Without expert parallelism the communication stream has nothing else to do.
  const std::vector<std::string> alone = {"plan.ep=1", "plan.communication_sms=0"};
  const auto with = [&](int zero) {
    std::vector<std::string> sets = alone;
    sets.push_back(stage(zero));
    return tiny(sets);
  };
  const Scenario sharded = with(3);
  const Scenario plain = with(1);
  for (const LayerKind kind : {LayerKind::kDense, LayerKind::kMoe}) {
    for (const ChunkKind chunk : {ChunkKind::kForward, ChunkKind::kBackwardInput}) {
      CAPTURE(name_of(kind), name_of(chunk));
      Scenario fast = sharded;
      fast.cluster.nic.bandwidth = Bandwidth(1e16);
      fast.cluster.pcie.bandwidth = Bandwidth(1e16);
      fast.cluster.nvlink.bandwidth = Bandwidth(1e16);
      const std::vector<LayerKind> layers(3, kind);
      const ChunkShape shape{.kind = chunk, .forward = layers, .backward = layers};
      const ChunkProgram one = ChunkBuilder(plain, plain.plan, routing_of(plain))
                                   .program({.kind = chunk, .forward = {kind}, .backward = {kind}});
      const ChunkProgram without =
          ChunkBuilder(plain, plain.plan, routing_of(plain)).program(shape);
      const ChunkProgram with_moves =
          ChunkBuilder(fast, fast.plan, routing_of(fast)).program(shape);
      const Duration gather = gather_of(fast, kind).time;
      REQUIRE(gather > Duration());
      REQUIRE(gather < one.alone);
      REQUIRE(with_moves.alone == without.alone + gather);
    }
  }
}

TEST_CASE("moves are as fast on a slow GPU", "[zero]") {
  const Scenario s = tiny({stage(3)});
  const ChunkProgram program = ChunkBuilder(s, s.plan, routing_of(s)).single(Pass::kForward, 1);
  std::vector<TaskSpan> spans(program.tasks.size());
  ChunkPlay play;
  play.begin(program.tasks, spans.data(), Time(), {.slowness = 2, .jitter = 0.1});
  while (!play.advance().ended) {
    const Time now = spans[0].end;
    play.finish_collective(now, now);
  }
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (!is_move(program.tasks[i])) continue;
    REQUIRE(spans[i].end - spans[i].start == program.tasks[i].times.time.front());
  }
}

TEST_CASE("a second holder spreads a stage's shards further", "[zero]") {
  const Scenario s = tiny({stage(3)});
  ChunkBuilder builder(s, s.plan, routing_of(s), {2, 1, 1, 2});
  for (const int n : {0, 1}) {
    const ChunkShape shape = builder.single_shape(Pass::kBackward, n);
    REQUIRE(shape.backward_holders == (n == 0 ? 2 : 1));
    const Duration gathered = sum(gathered_layers(shape), [&](LayerKind kind) {
                                return gather_of(s, kind, shape.backward_holders);
                              }).time;
    const Duration reduced = sum(shape.backward, [&](LayerKind kind) {
                               return reduction_of(s, kind, shape.backward_holders);
                             }).time;
    REQUIRE(builder.program(shape).moves == gathered + reduced);
  }
}
