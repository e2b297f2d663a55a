#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/arithmetic/flops.hpp"
#include "model/arithmetic/parameters.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("FLOP per token are 6 per activated weight plus attention", "[flops]") {
  const ModelSpec m = deepseek_v3();
  const double weights = static_cast<double>(count_parameters(m).activated_without_embedding);
  const double attention = 61.0 * 128 * (192 + 128) * kSequence;  // multiply-adds, all keys
  REQUIRE(training_flops_per_token(m, kSequence, AttentionCount::kFull).count() ==
          Approx(6 * (weights + attention)));
  REQUIRE(training_flops_per_token(m, kSequence, AttentionCount::kCausal).count() ==
          Approx(6 * (weights + attention / 2)));
}

TEST_CASE("FLOP per token agree with the published numbers", "[flops]") {
  // Source: arXiv 2505.09343, Table 2 (250 and 155 GFLOP); 250.4 and 260.6 by the same definition
  // without and with MTP.
  const auto gflop = [](const ModelSpec& m, MtpCount mtp) {
    return training_flops_per_token(m, kSequence, AttentionCount::kCausal, mtp).count() / 1e9;
  };
  REQUIRE(gflop(deepseek_v3(), MtpCount::kExcluded) == Approx(250.4).margin(0.05));
  REQUIRE(gflop(deepseek_v3(), MtpCount::kIncluded) == Approx(260.6).margin(0.05));
  REQUIRE(gflop(deepseek_v2(), MtpCount::kExcluded) == Approx(155).margin(0.5));
}

TEST_CASE("a model without MTP needs as much with as without it", "[flops]") {
  const ModelSpec m = deepseek_v2();
  REQUIRE(forward_flops_per_token(m, 100, AttentionCount::kFull, MtpCount::kIncluded) ==
          forward_flops_per_token(m, 100, AttentionCount::kFull));
}

TEST_CASE("training costs three forward passes", "[flops]") {
  const auto count = GENERATE(AttentionCount::kCausal, AttentionCount::kFull);
  const ModelSpec m = deepseek_v3();
  REQUIRE(training_flops_per_token(m, 512, count).count() ==
          3 * forward_flops_per_token(m, 512, count).count());
}

TEST_CASE("a dense model needs 6 FLOP per weight and its attention", "[flops]") {
  const GqaModel m = llama_405b();
  // q and o full width, k and v 8 heads; three FFN matrices.
  const double layer = 16384.0 * 128 * (2 * 128 + 2 * 8) + 3.0 * 16384 * 53248;
  const double scores = 2.0 * 128 * 128 * kSequence / 2;
  const double head = 16384.0 * 128256;
  REQUIRE(training_flops_per_token(m, kSequence, AttentionCount::kCausal).count() ==
          Approx(6 * (126 * (layer + scores) + head)));
}

TEST_CASE("FLOP of an empty sequence are refused", "[flops]") {
  REQUIRE_THROWS_WITH(forward_flops_per_token(deepseek_v3(), 0, AttentionCount::kFull),
                      "seq_length must be positive: 0");
}
