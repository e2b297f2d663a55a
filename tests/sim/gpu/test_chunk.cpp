#include <catch2/catch.hpp>
#include <numeric>

#include "scenarios.hpp"
#include "sim/gpu/chunk.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// Every chunk of a scenario, each stage's passes and its overlapped pairs with every other stage.
std::vector<ChunkProgram> chunks_of(const Scenario& s) {
  const ChunkBuilder builder(s, s.plan, routing_of(s));
  std::vector<ChunkProgram> out;
  for (int stage = 0; stage < s.plan.pp; ++stage) {
    for (const Pass pass :
         {Pass::kForward, Pass::kBackward, Pass::kBackwardInput, Pass::kBackwardWeight})
      out.push_back(builder.single(pass, stage));
    for (int other = 0; other < s.plan.pp; ++other) out.push_back(builder.overlapped(stage, other));
  }
  return out;
}

Duration busy(const ChunkProgram& program, Stream stream) {
  Duration sum;
  for (const Task& task : program.tasks)
    if (task.stream == stream) sum += task.duration;
  return sum;
}

Duration total(const std::vector<WorkShare>& shares) {
  return std::accumulate(shares.begin(), shares.end(), Duration(),
                         [](Duration sum, const WorkShare& share) { return sum + share.time; });
}

/// Work of a chunk without waits: what it would take on one stream. The side stream runs beside the
/// compute stream's own work.
Duration serial(const ChunkProgram& program) {
  return busy(program, Stream::kCompute) + busy(program, Stream::kCommunication);
}

Scenario scenario_named(const std::string& name) { return shipped(name); }

}  // namespace

TEST_CASE("a chunk's tasks wait only for tasks before them", "[chunk]") {
  const Scenario s = scenario_named(GENERATE("tiny-moe-h100", "deepseek-v3-h800"));
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE_FALSE(program.tasks.empty());
    for (int i = 0; i < static_cast<int>(program.tasks.size()); ++i) {
      const Task& task = program.tasks[static_cast<std::size_t>(i)];
      REQUIRE(task.after < i);
      REQUIRE(task.duration > Duration());
      REQUIRE((!task.collective || task.stream == Stream::kCommunication));
    }
  }
}

TEST_CASE("a chunk lasts at least as long as its busiest stream and at most all its work",
          "[chunk]") {
  const Scenario s = scenario_named(GENERATE("tiny-moe-h100", "deepseek-v3-h800"));
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(program.compute == busy(program, Stream::kCompute));
    REQUIRE(program.communication <= busy(program, Stream::kCommunication));
    REQUIRE(program.alone >= busy(program, Stream::kCompute));
    REQUIRE(program.alone >= busy(program, Stream::kCommunication));
    REQUIRE(program.alone <= serial(program));
  }
}

TEST_CASE("what is critical in a chunk sums to its time", "[chunk]") {
  const Scenario s = scenario_named(GENERATE("tiny-moe-h100", "deepseek-v3-h800"));
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(total(program.critical) == program.alone);
  }
}

TEST_CASE("a task's work sums to its duration", "[chunk]") {
  const Scenario s = tiny();
  for (const ChunkProgram& program : chunks_of(s)) {
    for (const Task& task : program.tasks) {
      // The side stream is busy while the compute stream's task holds the work.
      if (task.stream != Stream::kSide) REQUIRE(total(task.work) == task.duration);
    }
  }
}

TEST_CASE("a pair overlaps: it is faster than its halves one after the other", "[chunk]") {
  const Scenario s = scenario_named(GENERATE("tiny-moe-h100", "deepseek-v3-h800"));
  const ChunkBuilder builder(s, s.plan, routing_of(s));
  const int middle = s.plan.pp / 2;
  const ChunkProgram pair = builder.overlapped(middle, middle);
  REQUIRE(pair.alone < serial(pair));
  // Both halves' communication, slowed by contention; both halves' compute, on fewer SMs.
  const ChunkProgram forward = builder.single(Pass::kForward, middle);
  const ChunkProgram backward = builder.single(Pass::kBackward, middle);
  REQUIRE(pair.communication >= forward.communication + backward.communication);
  REQUIRE(pair.compute >= forward.compute + backward.compute);
  REQUIRE(pair.nic_bytes == forward.nic_bytes + backward.nic_bytes);
  REQUIRE(pair.nvlink_bytes == forward.nvlink_bytes + backward.nvlink_bytes);
}

TEST_CASE("a full backward does the work of both its parts", "[chunk]") {
  const Scenario s = tiny();
  const ChunkBuilder builder(s, s.plan, routing_of(s));
  for (int stage = 0; stage < s.plan.pp; ++stage) {
    const ChunkProgram full = builder.single(Pass::kBackward, stage);
    const ChunkProgram input = builder.single(Pass::kBackwardInput, stage);
    const ChunkProgram weight = builder.single(Pass::kBackwardWeight, stage);
    REQUIRE(full.compute == input.compute + weight.compute);
    REQUIRE(full.communication == input.communication);
    REQUIRE(weight.communication == Duration());
    // Weight gradients fill the time in which the input gradient's tokens travel.
    REQUIRE(full.alone <= input.alone + weight.alone);
  }
}

TEST_CASE("without expert parallelism a chunk has one stream", "[chunk]") {
  const Scenario s = tiny({"plan.ep=1"});
  for (const ChunkProgram& program : chunks_of(s)) {
    REQUIRE(program.communication == Duration());
    REQUIRE(program.nic_bytes == Bytes(0));
    REQUIRE(program.nvlink_bytes == Bytes(0));
    REQUIRE(busy(program, Stream::kCommunication) == Duration());
    REQUIRE(program.alone == program.compute);
  }
}

TEST_CASE("communication SMs are taken from the computation of pairs alone", "[chunk]") {
  const Scenario few = tiny({"plan.communication_sms=10"});
  const Scenario many = tiny({"plan.communication_sms=40"});
  const ChunkBuilder few_builder(few, few.plan, routing_of(few));
  const ChunkBuilder many_builder(many, many.plan, routing_of(many));
  REQUIRE(few_builder.single(Pass::kForward, 1).compute ==
          many_builder.single(Pass::kForward, 1).compute);
  REQUIRE(few_builder.overlapped(1, 1).compute < many_builder.overlapped(1, 1).compute);
  REQUIRE(few_builder.overlapped(1, 1).communication >=
          many_builder.overlapped(1, 1).communication);
}
