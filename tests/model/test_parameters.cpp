#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/arithmetic/parameters.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("DeepSeek-V3's parameters are the sums of its matrices", "[parameters]") {
  const ParameterCount p = count_parameters(deepseek_v3());
  REQUIRE(p.attention.q_a == 7168 * 1536);
  REQUIRE(p.attention.q_b == 1536 * 128 * (128 + 64));
  REQUIRE(p.attention.kv_a == 7168 * (512 + 64));
  REQUIRE(p.attention.kv_b == 512 * 128 * (128 + 128));
  REQUIRE(p.attention.o == 128 * 128 * 7168);
  REQUIRE(p.expert == 3 * 7168 * 2048);  // gate, up, down
  REQUIRE(p.router == 256 * 7168);
  REQUIRE(p.dense_ffn == 3 * 7168 * 18432);
  REQUIRE(p.embedding == std::int64_t{129280} * 7168);
  REQUIRE(p.head == p.embedding);
  const std::int64_t attention = p.attention.total();
  REQUIRE(p.moe_layer == attention + p.router + 257 * p.expert);
  REQUIRE(p.moe_layer_activated == attention + p.router + 9 * p.expert);
  REQUIRE(p.total == 3 * (attention + p.dense_ffn) + 58 * p.moe_layer + 2 * p.embedding);
  REQUIRE(p.activated - p.activated_without_embedding == p.embedding);
  REQUIRE(p.mtp == p.moe_layer + 2 * 7168 * 7168);  // a MoE layer and the projection
}

TEST_CASE("counts agree with what DeepSeek-V3's authors print, to the printed digits",
          "[parameters]") {
  // Sources: technical report, section 4.2; README_WEIGHTS.
  const ParameterCount p = count_parameters(deepseek_v3());
  REQUIRE(static_cast<double>(p.total) == Approx(671.0e9).margin(0.05e9));
  REQUIRE(static_cast<double>(p.activated) == Approx(37e9).margin(0.6e9));
  REQUIRE(static_cast<double>(p.activated_without_embedding) == Approx(36.7e9).margin(0.1e9));
  REQUIRE(static_cast<double>(p.mtp) == Approx(11.5e9).margin(0.15e9));
}

TEST_CASE("norms and router bias are counted apart", "[parameters]") {
  const ParameterCount p = count_parameters(deepseek_v3());
  REQUIRE(p.router_bias == 58 * 256);
  REQUIRE(p.norms == 61 * (7168 + 1536 + 512 + 7168) + 7168);
  // Two entry norms and the final norm of its own, beside those of a MoE layer.
  REQUIRE(p.mtp_vectors == 3 * 7168 + (7168 + 1536 + 512 + 7168) + 256);
}

TEST_CASE("the tensors of a layout sum to the model", "[parameters]") {
  const ModelSpec model = deepseek_v3();
  const ParameterCount p = count_parameters(model);
  const int ep = GENERATE(1, 8, 64, 256);
  std::int64_t replicated = 0;
  std::int64_t expert = 0;
  for (const auto& stage : deepseek_v3_layout()) {
    const HeldParameters held = parameters_of_stage(model, stage, ep);
    REQUIRE(held.total() == held.dense + held.high_precision + held.expert);
    replicated += held.replicated();
    expert += held.expert;
  }
  REQUIRE(replicated + ep * expert == p.total + p.mtp + p.norms + p.router_bias + p.mtp_vectors);
}

TEST_CASE("held parameters add up over stages", "[parameters]") {
  using enum LayerKind;
  const ModelSpec model = deepseek_v3();
  HeldParameters sum = parameters_of_stage(model, {kMoe}, 64);
  sum += parameters_of_stage(model, {kDense, kHead}, 64);
  REQUIRE(sum.total() == parameters_of_stage(model, {kMoe, kDense, kHead}, 64).total());
}

TEST_CASE("without compressed queries there is one query matrix and no query norm",
          "[parameters]") {
  const ModelSpec model = deepseek_v2_lite();
  const ParameterCount p = count_parameters(model);
  REQUIRE(p.attention.q_a == 0);
  REQUIRE(p.attention.q_b == 2048 * 16 * 192);
  for (const ParameterTensor& t : parameters_of(model, LayerKind::kMoe)) {
    REQUIRE(t.name != "q_norm");
    REQUIRE(t.name != "q_a");
  }
  // Printed: 15.7 B in total, 2.4 B activated (README of DeepSeek-V2-Lite).
  REQUIRE(static_cast<double>(p.total) == Approx(15.7e9).margin(0.05e9));
  REQUIRE(static_cast<double>(p.activated_without_embedding) == Approx(2.4e9).margin(0.1e9));
}

TEST_CASE("tied embeddings are owned once and multiplied by all the same", "[parameters]") {
  ModelSpec model = deepseek_v2_lite();
  const ParameterCount apart = count_parameters(model);
  model.tie_word_embeddings = true;
  const ParameterCount tied = count_parameters(model);
  REQUIRE(apart.total - tied.total == apart.head);
  REQUIRE(tied.activated_without_embedding == apart.activated_without_embedding);
  REQUIRE(parameters_of(model, LayerKind::kHead).size() == 1);  // the final norm
}

TEST_CASE("impossible expert counts are refused", "[parameters]") {
  ModelSpec model = deepseek_v3();
  REQUIRE_THROWS_WITH(parameters_of_stage(model, {LayerKind::kMoe}, 48),
                      "256 routed experts cannot be split evenly over ep=48 GPUs");
  model.num_experts_per_tok = 257;
  REQUIRE_THROWS_WITH(count_parameters(model),
                      "num_experts_per_tok is 257, but there are only 256 routed experts");
}
