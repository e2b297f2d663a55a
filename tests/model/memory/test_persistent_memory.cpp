#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/memory/persistent_memory.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr std::int64_t kDataParallel = 128;

Schedule schedule_of(const std::string& kind, int ranks) {
  return Registry<ScheduleKind>::instance().find(kind).make(
      {.ranks = ranks, .microbatches = 4 * ranks});
}

PersistentMemory of_rank(const Scenario& s, int rank) {
  return persistent_memory(s, s.plan, schedule_of(s.plan.schedule, s.plan.pp), rank);
}

std::int64_t sum(const std::vector<MemoryTensor>& tensors, MemoryCategory category) {
  std::int64_t out = 0;
  for (const MemoryTensor& t : tensors) out += t.category == category ? t.bytes.count() : 0;
  return out;
}

std::int64_t sum(const std::vector<MemoryTensor>& tensors, std::string_view name) {
  std::int64_t out = 0;
  for (const MemoryTensor& t : tensors) out += t.name == name ? t.bytes.count() : 0;
  return out;
}

/// Of replicated parameters and of experts.
std::int64_t both(const std::vector<MemoryTensor>& tensors, const std::string& name) {
  return sum(tensors, name) + sum(tensors, "expert_" + name);
}

// DeepSeek-V3's MoE layer on one of 64 GPUs, by hand from its config.json.
constexpr std::int64_t kAttention =
    7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168;
constexpr std::int64_t kExpert = 3 * 7168 * 2048;
constexpr std::int64_t kLinear = kAttention + kExpert;                    // with the shared expert
constexpr std::int64_t kHigh = 256 * 7168 + 256 + 2 * 7168 + 1536 + 512;  // gate, bias, norms
constexpr std::int64_t kExperts = 256 / 64 * kExpert;
constexpr std::int64_t kLayers = 8;  // two stages of four on a rank of DualPipe

}  // namespace

TEST_CASE("parameters of a rank are a sum by hand", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const int rank = GENERATE(1, 3, 7, 14);
  REQUIRE(of_rank(s, rank).parameters == kLayers * (kLinear + kHigh + kExperts));
}

TEST_CASE("weights are FP8 with block scales where products are, else BF16", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  const std::int64_t fp8 = kLayers * (kLinear + kExperts);
  const std::int64_t high = kLayers * kHigh;
  const auto weights = [&] { return sum(of_rank(s, 3).tensors, MemoryCategory::kWeights); };
  // Blocks of 128 x 128; the 576 rows of kv_a are four and a half.
  const std::int64_t blocks = kLayers * ((kLinear + kExperts) / (128 * 128) + 56 / 2);
  REQUIRE(weights() == fp8 + 4 * blocks + 2 * high);
  s.plan.precision.gemm = Precision::kBf16;
  REQUIRE(weights() == 2 * (fp8 + high));
}

TEST_CASE("ZeRO shards the optimizer, then gradients, then weights, over all holders", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.zero_stage = GENERATE(0, 1, 2, 3);
  const std::int64_t replicated = kLayers / 2 * (kLinear + kHigh);  // of one stage
  const std::int64_t experts = kLayers / 2 * kExperts;
  // Dense parameters over 2 x 128 GPUs, an expert over 2 x 128 / 64.
  const auto flat = [&](bool sharded) {
    return 2 *
           (sharded ? ceil_div(replicated, 2 * kDataParallel) + experts / 4 : replicated + experts);
  };
  const PersistentMemory memory = of_rank(s, 3);
  const int stage = s.plan.zero_stage;
  REQUIRE(sum(memory.tensors, MemoryCategory::kOptimizer) == (4 + 2 + 2) * flat(stage >= 1));
  REQUIRE(sum(memory.tensors, MemoryCategory::kGradients) == 4 * flat(stage >= 2));
  const std::int64_t linear = sum(memory.tensors, "q_a");
  const std::int64_t whole = kLayers * 7168 * 1536;
  REQUIRE(linear == (stage >= 3 ? whole / (2 * kDataParallel) : whole));
  REQUIRE(sum(memory.tensors, "weight_scales") > 0);
}

TEST_CASE("a schedule with one copy of every stage shards over half as many GPUs", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.schedule = "1f1b";
  const std::int64_t replicated = kLayers / 2 * (kLinear + kHigh);
  REQUIRE(both(of_rank(s, 3).tensors, "master_weights") ==
          4 * (ceil_div(replicated, kDataParallel) + kLayers / 2 * kExperts / 2));
}

TEST_CASE("an optimizer and a moving average in host memory leave the GPU", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.memory.ema = MemoryPlace::kDevice;
  const PersistentMemory here = of_rank(s, 3);
  REQUIRE(here.on_host.empty());
  REQUIRE(both(here.tensors, "ema") == both(here.tensors, "master_weights"));
  s.plan.memory.ema = MemoryPlace::kHost;
  const PersistentMemory average = of_rank(s, 3);
  REQUIRE(both(average.on_host, "ema") == both(here.tensors, "ema"));
  REQUIRE(both(average.tensors, "ema") == 0);
  s.plan.memory.optimizer = MemoryPlace::kHost;
  const PersistentMemory there = of_rank(s, 3);
  REQUIRE(sum(there.tensors, MemoryCategory::kOptimizer) == 0);
  REQUIRE(sum(there.on_host, MemoryCategory::kOptimizer) ==
          sum(here.tensors, MemoryCategory::kOptimizer));
}

TEST_CASE("a rank that uses the embedding without holding it has a copy", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  constexpr std::int64_t kEmbedding = std::int64_t{129280} * 7168;
  REQUIRE(sum(of_rank(s, 0).tensors, "embedding_copy") == 0);  // DualPipe: first and last stage
  s.plan.schedule = "1f1b";
  REQUIRE(sum(of_rank(s, 15).tensors, "embedding_copy") == 2 * kEmbedding);
  REQUIRE(sum(of_rank(s, 15).tensors, "embedding_copy_gradients") == 4 * kEmbedding);
  REQUIRE(sum(of_rank(s, 0).tensors, "embedding_copy") == 0);
  // The head is used twice and held once.
  REQUIRE(sum(of_rank(s, 15).tensors, "head") == 2 * kEmbedding);
}

TEST_CASE("an evaluation has weights alone", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.schedule = "forward-only";
  const PersistentMemory memory = of_rank(s, 3);
  REQUIRE(sum(memory.tensors, MemoryCategory::kGradients) == 0);
  REQUIRE(sum(memory.tensors, MemoryCategory::kOptimizer) == 0);
  REQUIRE(sum(memory.tensors, MemoryCategory::kWeights) > 0);
}

TEST_CASE("both directions of the middle rank of an odd pipeline share their stage", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.schedule = "dualpipe";
  const Schedule schedule = schedule_of("dualpipe", 6);
  REQUIRE(held_stages(schedule, 1).size() == 2);
  REQUIRE(held_stages(schedule, 1).front().holders == 2);
  Schedule odd;
  odd.stage_of = {{0, 1, 2}, {2, 1, 0}};
  odd.microbatches = {1, 1};
  odd.ranks.resize(3);
  REQUIRE(held_stages(odd, 1).size() == 1);
  REQUIRE(held_stages(odd, 1).front().holders == 1);
}

TEST_CASE("pipeline messages: one in and one out per lane and direction", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  const std::int64_t message = kSequence * 7168 * 2;
  REQUIRE(sum(of_rank(s, 3).tensors, "pipeline_messages") == 2 * 4 * message);
  s.plan.schedule = "forward-only";
  REQUIRE(sum(of_rank(s, 3).tensors, "pipeline_messages") == 2 * message);
}

TEST_CASE("replicas that cannot share experts evenly are refused", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.ep = 256;
  REQUIRE_THROWS_WITH(replica_groups(s, s.plan, 1),
                      "128 data-parallel ranks are not a multiple of ep=256");
}

TEST_CASE("the allocator gives blocks of 512 bytes and large segments of 2 MiB", "[memory]") {
  const auto given = [](std::int64_t bytes) { return allocated_bytes(Bytes(bytes)).count(); };
  constexpr std::int64_t kMiB = 1 << 20;
  REQUIRE(given(0) == 0);
  REQUIRE(given(1) == 512);
  REQUIRE(given(512) == 512);
  REQUIRE(given(513) == 1024);
  REQUIRE(given(10 * kMiB - 1) == 10 * kMiB);
  REQUIRE(given(10 * kMiB) == 10 * kMiB);
  REQUIRE(given(10 * kMiB + 1) == 12 * kMiB);
}
