#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "scenarios.hpp"
#include "sim/gpu/chunk.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// Every chunk of a scenario, each stage's passes and its overlapped pairs with every other stage.
std::vector<ChunkProgram> chunks_of(const Scenario& s) {
  ChunkBuilder builder(s, s.plan, routing_of(s));
  std::vector<ChunkProgram> out;
  for (int stage = 0; stage < s.plan.pp; ++stage) {
    for (const Pass pass :
         {Pass::kForward, Pass::kBackward, Pass::kBackwardInput, Pass::kBackwardWeight})
      out.push_back(builder.single(pass, stage));
    for (int other = 0; other < s.plan.pp; ++other) out.push_back(builder.overlapped(stage, other));
  }
  return out;
}

/// Time of the tasks of one stream where nothing is beside them.
Duration undisturbed(const ChunkProgram& program, bool communication) {
  Duration sum;
  for (const Task& task : program.tasks) {
    if (task.communication == communication) sum += task.times.time.front();
  }
  return sum;
}

Duration slowest(const Task& task) {
  return *std::max_element(task.times.time.begin(), task.times.time.end());
}

/// Work of a chunk without waits, all of it disturbed as much as it can be, on one stream.
Duration serial(const ChunkProgram& program) {
  Duration sum;
  for (const Task& task : program.tasks) sum += slowest(task);
  return sum;
}

Duration total(const std::vector<WorkShare>& shares) {
  return std::accumulate(shares.begin(), shares.end(), Duration(),
                         [](Duration sum, const WorkShare& share) { return sum + share.time; });
}

Scenario either_scenario() { return shipped(GENERATE("tiny-moe-h100", "deepseek-v3-h800")); }

}  // namespace

TEST_CASE("a chunk's tasks wait only for tasks before them", "[chunk]") {
  const Scenario s = either_scenario();
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE_FALSE(program.tasks.empty());
    for (int i = 0; i < static_cast<int>(program.tasks.size()); ++i) {
      const Task& task = program.tasks[static_cast<std::size_t>(i)];
      REQUIRE(task.after < i);
      REQUIRE(task.times.time.front() > Duration());
      REQUIRE((!task.collective || task.communication));
      REQUIRE((task.beside == Beside::kNothing || task.communication));
    }
  }
}

TEST_CASE("no task gets faster by what is beside it", "[chunk]") {
  const Scenario s = either_scenario();
  for (const ChunkProgram& program : chunks_of(s)) {
    for (const Task& task : program.tasks) {
      if (task.communication) {
        for (const Duration time : task.times.beside_phase) REQUIRE(time >= task.times.time[0]);
      } else {
        for (const Duration time : task.times.time) REQUIRE(time >= task.times.time[0]);
      }
      // Computation is beside a transfer for all of it, some of it, or not at all.
      if (!task.collective) continue;
      REQUIRE(task.transfer >= task.times.time[0]);
      REQUIRE(task.transfer <=
              *std::max_element(task.times.beside_phase.begin(), task.times.beside_phase.end()));
    }
  }
}

TEST_CASE("a chunk lasts at least as long as its busiest stream and at most all its work",
          "[chunk]") {
  const Scenario s = either_scenario();
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(program.compute >= undisturbed(program, false));
    REQUIRE(program.alone >= program.compute);
    REQUIRE(program.alone >= program.communication);
    REQUIRE(program.alone >= undisturbed(program, true));
    REQUIRE(program.alone <= serial(program));
    Duration transfers;
    for (const Task& task : program.tasks) transfers += task.transfer;
    REQUIRE(program.communication == transfers);
  }
}

TEST_CASE("what is critical in a chunk sums to its time", "[chunk]") {
  const Scenario s = either_scenario();
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(total(program.critical) == program.alone);
  }
}

TEST_CASE("a task's work sums to its time beside nothing", "[chunk]") {
  const Scenario s = either_scenario();
  for (const ChunkProgram& program : chunks_of(s)) {
    for (const Task& task : program.tasks) REQUIRE(total(task.work) == task.times.time.front());
  }
}

TEST_CASE("a pair overlaps: it is faster than its halves one after the other", "[chunk]") {
  const Scenario s = either_scenario();
  ChunkBuilder builder(s, s.plan, routing_of(s));
  const int middle = s.plan.pp / 2;
  const ChunkProgram pair = builder.overlapped(middle, middle);
  const ChunkProgram forward = builder.single(Pass::kForward, middle);
  const ChunkProgram backward = builder.single(Pass::kBackward, middle);
  REQUIRE(pair.alone < forward.alone + backward.alone);
  // Both halves' communication, slowed by contention; both halves' compute, on fewer SMs.
  REQUIRE(pair.communication >= forward.communication + backward.communication);
  REQUIRE(pair.compute >= forward.compute + backward.compute);
  REQUIRE(pair.nic_bytes == forward.nic_bytes + backward.nic_bytes);
  REQUIRE(pair.nvlink_bytes == forward.nvlink_bytes + backward.nvlink_bytes);
}

TEST_CASE("a full backward does the work of both its parts", "[chunk]") {
  const Scenario s = either_scenario();
  ChunkBuilder builder(s, s.plan, routing_of(s));
  for (int stage = 0; stage < s.plan.pp; ++stage) {
    const ChunkProgram full = builder.single(Pass::kBackward, stage);
    const ChunkProgram input = builder.single(Pass::kBackwardInput, stage);
    const ChunkProgram weight = builder.single(Pass::kBackwardWeight, stage);
    // Its weight gradients leave the communication SMs free and run beside tokens on their way.
    REQUIRE(full.compute >= input.compute + weight.compute);
    REQUIRE(full.communication >= input.communication);
    REQUIRE(full.nic_bytes == input.nic_bytes);
    REQUIRE(full.nvlink_bytes == input.nvlink_bytes);
    REQUIRE(weight.communication == Duration());
    REQUIRE(full.alone >= input.alone);
    const auto& layers = s.plan.pipeline_layout[static_cast<std::size_t>(stage)];
    const bool moe = std::all_of(layers.begin(), layers.end(),
                                 [](LayerKind kind) { return kind == LayerKind::kMoe; });
    // They fill the time in which the input gradient's tokens travel.
    if (moe) REQUIRE(full.alone < input.alone + weight.alone);
  }
}

TEST_CASE("without expert parallelism a chunk has one stream", "[chunk]") {
  const Scenario s = tiny({"plan.ep=1"});
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(program.communication == Duration());
    REQUIRE(program.nic_bytes == Bytes(0));
    REQUIRE(program.nvlink_bytes == Bytes(0));
    REQUIRE(undisturbed(program, true) == Duration());
    REQUIRE(program.compute == undisturbed(program, false));
    REQUIRE(program.alone == program.compute);
  }
}

TEST_CASE("without overlap a chunk takes its tasks' times one after the other", "[chunk]") {
  const Scenario s =
      tiny({"plan.overlap.communication=false", "plan.overlap.weight_gradient_streams=1"});
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(program.alone == undisturbed(program, false) + undisturbed(program, true));
    REQUIRE(program.compute == undisturbed(program, false));
  }
}

TEST_CASE("communication SMs are taken from pairs and from weight gradients beside an exchange",
          "[chunk]") {
  const Scenario few = tiny({"plan.communication_sms=10"});
  const Scenario many = tiny({"plan.communication_sms=40"});
  ChunkBuilder of_few(few, few.plan, routing_of(few));
  ChunkBuilder of_many(many, many.plan, routing_of(many));
  for (const Pass pass : {Pass::kForward, Pass::kBackwardInput, Pass::kBackwardWeight}) {
    REQUIRE(of_few.single(pass, 1).compute == of_many.single(pass, 1).compute);
  }
  REQUIRE(of_few.single(Pass::kBackward, 1).compute < of_many.single(Pass::kBackward, 1).compute);
  REQUIRE(of_few.overlapped(1, 1).compute < of_many.overlapped(1, 1).compute);
  REQUIRE(of_few.overlapped(1, 1).communication >= of_many.overlapped(1, 1).communication);
}

TEST_CASE("an engine beside the SMs leaves them all to computation and is paced by links alone",
          "[chunk]") {
  const std::string name = GENERATE(as<std::string>{}, "tiny-moe-h100", "deepseek-v3-h800");
  const Scenario with_sms = shipped(name);
  const Scenario engine = shipped(name, {"plan.communication_sms=0"});
  ChunkBuilder of_sms(with_sms, with_sms.plan, routing_of(with_sms));
  ChunkBuilder of_engine(engine, engine.plan, routing_of(engine));
  const ChunkProgram pair = of_engine.overlapped(1, 1);
  REQUIRE(pair.compute < of_sms.overlapped(1, 1).compute);
  REQUIRE(pair.communication <= of_sms.overlapped(1, 1).communication);
  REQUIRE(pair.nic_bytes == of_sms.overlapped(1, 1).nic_bytes);
  REQUIRE(of_engine.single(Pass::kForward, 1).compute == of_sms.single(Pass::kForward, 1).compute);
  // The casts before a backward's dispatch take their turn with computation.
  REQUIRE(of_engine.single(Pass::kBackwardInput, 1).compute >
          of_sms.single(Pass::kBackwardInput, 1).compute);
  for (const Pass pass : {Pass::kForward, Pass::kBackwardInput}) {
    REQUIRE(of_engine.single(pass, 1).alone <= of_sms.single(pass, 1).alone);
  }
}
