#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/memory/rank_memory.hpp"
#include "model/operations/layer_operations.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr int kRanks = 16;
constexpr int kDataParallel = 128;

/// Both stages of a DualPipe rank, with PP + 1 chunks alive: the first stages stash most of them.
std::vector<HeldStage> dualpipe_rank(int rank) {
  const int mirror = kRanks - 1 - rank;
  return {{.stage = rank, .holders = 2, .live_chunks = kRanks - rank},
          {.stage = mirror, .holders = 2, .live_chunks = rank + 1}};
}

HeldParameters held(const std::vector<HeldStage>& stages) {
  HeldParameters sum;
  const PipelineLayout layout = deepseek_v3_layout();
  for (const HeldStage& s : stages) {
    sum += parameters_of_stage(deepseek_v3(), layout[static_cast<std::size_t>(s.stage)], 64);
  }
  return sum;
}

Bytes kept(const Scenario& s, LayerKind kind) {
  Bytes sum;
  const LayerLoad load = balanced_load(s.model, s.plan, s.recipe.seq_length);
  for (const KeptTensor& t : layer_operations(s.model, s.plan, kind, load).kept) sum += t.bytes;
  return sum;
}

}  // namespace

TEST_CASE("DeepSeek-V3 fits into 80 GB on every rank of DualPipe with PP + 1 live chunks",
          "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const MemoryAccount account(s, s.plan);
  const int rank = GENERATE(range(0, kRanks));
  const RankMemory memory = account.of_rank(dualpipe_rank(rank));
  CAPTURE(rank, memory.weights.count(), memory.gradients.count(), memory.optimizer.count(),
          memory.activations.count(), memory.communication.count(), memory.workspace.count());
  REQUIRE(memory.total() <= s.cluster.gpu.hbm_capacity);
  // Gradients (FP32) take four times the FP8 weights; activations are the largest part.
  REQUIRE(memory.gradients > 2 * memory.weights);
  REQUIRE(memory.activations > memory.gradients);
  REQUIRE(memory.optimizer < memory.weights + memory.weights);
}

TEST_CASE("weights are FP8 with block scales where products are, gradients FP32", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const MemoryAccount account(s, s.plan);
  const auto stages = dualpipe_rank(3);  // four MoE layers each
  const HeldParameters p = held(stages);
  const RankMemory memory = account.of_rank(stages);
  const std::int64_t fp8 = p.dense + p.expert;
  const std::int64_t scales = fp8 / (128 * 128) * 4;
  REQUIRE(memory.parameters == p.total());
  REQUIRE(static_cast<double>(memory.weights.count()) ==
          Approx(static_cast<double>(fp8 + scales + 2 * p.high_precision)).margin(8));
  REQUIRE(memory.gradients == Bytes(4 * p.total()));
}

TEST_CASE("ZeRO-1 divides the optimizer over replicas and both holders, experts over theirs",
          "[memory]") {
  Scenario s = deepseek_v3_scenario();
  const auto stages = dualpipe_rank(3);
  const HeldParameters p = held(stages);
  const std::int64_t per_parameter = 4 + 2 + 2;  // FP32 master weight, two BF16 moments
  const RankMemory sharded = MemoryAccount(s, s.plan).of_rank(stages);
  // Dense over 2 x 128 GPUs, an expert over 2 x 128 / 64.
  const std::int64_t shard = p.replicated() / (2 * kDataParallel) + p.expert / 4;
  REQUIRE(static_cast<double>(sharded.optimizer.count()) ==
          Approx(static_cast<double>(per_parameter * shard)).epsilon(1e-6));
  s.plan.zero_stage = 0;
  const RankMemory whole = MemoryAccount(s, s.plan).of_rank(stages);
  REQUIRE(whole.optimizer == Bytes(per_parameter * p.total()));
}

TEST_CASE("activations are kept tensors times live chunks", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const MemoryAccount account(s, s.plan);
  const int chunks = GENERATE(0, 1, 7);
  REQUIRE(account.activations({.stage = 5, .live_chunks = chunks}) ==
          chunks * 4 * kept(s, LayerKind::kMoe));
  REQUIRE(account.activations({.stage = 15, .live_chunks = chunks}) ==
          chunks * (kept(s, LayerKind::kMoe) + kept(s, LayerKind::kMtp) +
                    2 * kept(s, LayerKind::kHead)));
}

TEST_CASE("weight gradients put off keep their operands", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const MemoryAccount account(s, s.plan);
  // FP8 operands of every product, with a scale per 128: inputs and output gradients of the
  // attention's five, the shared expert's two and the experts' two matrices.
  const std::int64_t tokens = kSequence;
  const std::int64_t attention =
      (16384 + 7168) + (32768 + 512) + (24576 + 1536) + (576 + 7168) + (1536 + 7168);
  const std::int64_t expert = (7168 + 2048) + (4096 + 7168);
  const double elements = static_cast<double>(tokens * (attention + expert + 8 * expert));
  REQUIRE(static_cast<double>(account.activations({.stage = 5, .deferred_weights = 1}).count()) ==
          Approx(4 * elements * (1 + 4.0 / 128)).epsilon(1e-9));
}

TEST_CASE("a rank without the embedding copies it for MTP", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const MemoryAccount account(s, s.plan);
  const std::vector<HeldStage> last = {{.stage = 15, .holders = 1}};
  const std::vector<HeldStage> both = dualpipe_rank(0);
  const std::int64_t embedding = std::int64_t{129280} * 7168;
  REQUIRE(account.of_rank(last).parameters == held(last).total() + embedding);
  REQUIRE(account.of_rank(both).parameters == held(both).total());
}

TEST_CASE("the peak is found along the rank's schedule, both halves of a pair alive", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.pp = 1;
  s.cluster.nodes = 16;
  s.plan.pipeline_layout = {deepseek_v3_layout()[1]};
  const auto pass = [](Pass p, int i) { return ChunkPass{p, 0, i}; };
  Schedule schedule;
  schedule.stage_of = {{0}};
  schedule.microbatches = {2};
  schedule.ranks = {
      {{.first = pass(Pass::kForward, 0)},
       {.first = pass(Pass::kForward, 1), .second = pass(Pass::kBackward, 0), .overlapped = true},
       {.first = pass(Pass::kBackward, 1)}}};
  const std::vector<RankMemory> ranks = memory_of_ranks(s, s.plan, schedule);
  REQUIRE(ranks.size() == 1);
  const MemoryAccount account(s, s.plan);
  REQUIRE(ranks[0].activations == account.activations({.stage = 0, .live_chunks = 2}));

  // Input gradients free the chunk but leave the operands of its weight gradients.
  schedule.ranks = {{{.first = pass(Pass::kForward, 0)},
                     {.first = pass(Pass::kBackwardInput, 0)},
                     {.first = pass(Pass::kForward, 1)},
                     {.first = pass(Pass::kBackwardWeight, 0)},
                     {.first = pass(Pass::kBackward, 1)}}};
  REQUIRE(memory_of_ranks(s, s.plan, schedule)[0].activations ==
          account.activations({.stage = 0, .live_chunks = 1, .deferred_weights = 1}));
}

TEST_CASE("one GPU alone exchanges nothing", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.pp = 1;
  s.plan.ep = 1;
  s.plan.pipeline_layout = {{LayerKind::kMoe}};
  REQUIRE(MemoryAccount(s, s.plan).of_rank({{.stage = 0}}).communication == Bytes(0));
  REQUIRE(MemoryAccount(s, s.plan).of_rank({{.stage = 0}}).workspace > Bytes(0));
}

TEST_CASE("plans that the account does not cover are refused", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.zero_stage = 3;
  REQUIRE_THROWS_WITH(MemoryAccount(s, s.plan), "zero_stage 3 is not modelled; it is 0 or 1");
  s.plan.zero_stage = 1;
  s.plan.ep = 256;
  REQUIRE_THROWS_WITH(MemoryAccount(s, s.plan),
                      "128 data-parallel ranks are not a multiple of ep=256");
}
