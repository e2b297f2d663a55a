#include <catch2/catch.hpp>

#include "model/arithmetic/parameters.hpp"
#include "model/memory/layer_memory.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

LayerLoad balanced(const Scenario& s) {
  return balanced_load(s.model, s.plan, s.recipe.seq_length);
}

LayerMemory memory_of(const Scenario& s, LayerKind kind) {
  return layer_memory(s.model, s.plan, kind, balanced(s));
}

Bytes bytes(const LayerMemory& memory, Bundle bundle) { return memory.at(bundle).bytes; }

}  // namespace

TEST_CASE("a layer keeps the tensors of its operations, no more", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const LayerKind kind = GENERATE(LayerKind::kEmbedding, LayerKind::kDense, LayerKind::kMoe,
                                  LayerKind::kMtp, LayerKind::kHead);
  Bytes kept;
  for (const KeptTensor& t : layer_operations(s.model, s.plan, kind, balanced(s)).kept) {
    kept += t.bytes;
  }
  const LayerMemory memory = memory_of(s, kind);
  REQUIRE(bytes(memory, Bundle::kAttentionKept) + bytes(memory, Bundle::kMlpKept) == kept);
}

TEST_CASE("kept tensors of a MoE layer of DeepSeek-V3 are a sum by hand", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const LayerMemory memory = memory_of(s, LayerKind::kMoe);
  constexpr std::int64_t t = kSequence;
  // Inputs of two RMSNorms and the latents in BF16, attention's output in E5M6 with scales, its
  // statistics, scores and choices of the router in FP32.
  const std::int64_t attention = 2 * t * (2 * 7168 + 1536 + 576) + t * 16384 * 3 / 2 +
                                 t * 16384 / 128 * 4 + 4 * t * (128 + 256 + 2 * 8);
  REQUIRE(bytes(memory, Bundle::kAttentionKept) == Bytes(attention));
  // Rows of the experts and inputs of SwiGLU in FP8 with scales.
  const std::int64_t rows = 8 * t;
  const LayerLoad load = balanced(s);
  const std::int64_t mlp = rows * (7168 + 4096) + rows * (56 + 32) * 4 + t * 4096 + t * 32 * 4 +
                           4 * load.received_tokens * 2 * 8;
  REQUIRE(bytes(memory, Bundle::kMlpKept) == Bytes(mlp));
}

TEST_CASE("more rows make the experts' tensors larger and nothing else", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  LayerLoad busy = balanced(s);
  const LayerMemory even = memory_of(s, LayerKind::kMoe);
  busy.routed_tokens += 1000;
  const LayerMemory more = layer_memory(s.model, s.plan, LayerKind::kMoe, busy);
  REQUIRE(bytes(more, Bundle::kAttentionKept) == bytes(even, Bundle::kAttentionKept));
  REQUIRE(bytes(more, Bundle::kMlpKept) - bytes(even, Bundle::kMlpKept) ==
          Bytes(1000 * (7168 + 4096 + (56 + 32) * 4)));
  REQUIRE(bytes(more, Bundle::kAttentionBackwardWork) ==
          bytes(even, Bundle::kAttentionBackwardWork));
  busy.received_tokens += 10;
  const LayerMemory received = layer_memory(s.model, s.plan, LayerKind::kMoe, busy);
  REQUIRE(bytes(received, Bundle::kDispatched) - bytes(even, Bundle::kDispatched) ==
          Bytes(10 * (7168 + 56 * 4)));
  REQUIRE(bytes(received, Bundle::kCombining) - bytes(even, Bundle::kCombining) ==
          Bytes(10 * 7168 * 2));
}

TEST_CASE("weight gradients put off keep their operands", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const LayerMemory memory = memory_of(s, LayerKind::kMoe);
  // FP8 operands of every product, with a scale per 128: inputs and output gradients of the
  // attention's five, the shared expert's two and the experts' two matrices.
  const std::int64_t tokens = kSequence;
  const std::int64_t attention =
      (16384 + 7168) + (32768 + 512) + (24576 + 1536) + (576 + 7168) + (1536 + 7168);
  const std::int64_t expert = (7168 + 2048) + (4096 + 7168);
  const auto fp8 = [](std::int64_t elements) {
    return Approx(static_cast<double>(elements) * (1 + 4.0 / 128)).epsilon(1e-9);
  };
  REQUIRE(static_cast<double>(bytes(memory, Bundle::kAttentionOperands).count()) ==
          fp8(tokens * attention));
  REQUIRE(static_cast<double>(bytes(memory, Bundle::kMlpOperands).count()) ==
          fp8(tokens * 9 * expert));
}

TEST_CASE("one GPU alone exchanges nothing but works", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.ep = 1;
  const LayerMemory memory = memory_of(s, LayerKind::kMoe);
  for (const Bundle bundle : {Bundle::kDispatched, Bundle::kCombining, Bundle::kDispatchedGradient,
                              Bundle::kCombiningGradient}) {
    REQUIRE(bytes(memory, bundle) == Bytes());
  }
  REQUIRE(bytes(memory, Bundle::kMlpForwardWork) > Bytes());
}

TEST_CASE("a phase works with the operands and results of its largest kernel", "[memory]") {
  const Scenario s = deepseek_v3_scenario();
  const LayerMemory memory = memory_of(s, LayerKind::kMoe);
  // Attention forward: queries and keys of 192, values and outputs of 128 for 128 heads in BF16,
  // one FP32 statistic a head.
  const std::int64_t tokens = kSequence;
  REQUIRE(bytes(memory, Bundle::kAttentionForwardWork) ==
          Bytes(tokens * 128 * (2 * (192 + 192 + 128 + 128) + 4)));
}

TEST_CASE("ZeRO-2 makes whole gradients of a layer and ZeRO-3 gathers its weights", "[memory]") {
  Scenario s = deepseek_v3_scenario();
  s.plan.zero_stage = GENERATE(1, 2, 3);
  const LayerMemory memory = memory_of(s, LayerKind::kMoe);
  const HeldParameters p = parameters_of_stage(s.model, {LayerKind::kMoe}, s.plan.ep);
  const std::int64_t linear = p.dense + p.expert;
  REQUIRE(bytes(memory, Bundle::kWholeGradients) ==
          Bytes(s.plan.zero_stage >= 2 ? 4 * p.total() : 0));
  REQUIRE(
      bytes(memory, Bundle::kGatheredWeights) ==
      Bytes(s.plan.zero_stage >= 3 ? linear + linear / (128 * 128) * 4 + 2 * p.high_precision : 0));
}
