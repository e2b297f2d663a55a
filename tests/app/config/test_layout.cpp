#include <catch2/catch.hpp>
#include <numeric>

#include "app/config/layout.hpp"
#include "app/config/load.hpp"

using namespace pipecast;
using namespace pipecast::config;

namespace {

ModelSpec model_of(std::int64_t layers, std::int64_t dense, std::int64_t mtp) {
  ModelSpec out;
  out.num_hidden_layers = layers;
  out.first_k_dense_replace = dense;
  out.num_nextn_predict_layers = mtp;
  return out;
}

std::int64_t hidden_layers(const std::vector<LayerKind>& stage) {
  return std::count(stage.begin(), stage.end(), LayerKind::kDense) +
         std::count(stage.begin(), stage.end(), LayerKind::kMoe);
}

}  // namespace

TEST_CASE("a stage's text and its layers are the same thing", "[config]") {
  using enum LayerKind;
  REQUIRE(parse_stage("embedding dense*3 moe") ==
          std::vector{kEmbedding, kDense, kDense, kDense, kMoe});
  REQUIRE(parse_stage("  moe   head mtp head ") == std::vector{kMoe, kHead, kMtp, kHead});
  for (const char* const text : {"embedding dense*3 moe", "moe*4", "moe head mtp head", "head"})
    REQUIRE(stage_to_text(parse_stage(text)) == text);
}

TEST_CASE("the automatic layout of DeepSeek-V3 on 16 stages is the plan's", "[config]") {
  const Scenario s =
      load_scenario(config_directory() / "scenarios" / "deepseek-v3-h800.yaml", {}).scenario;
  REQUIRE(automatic_layout(s.model, 16) == s.plan.pipeline_layout);
}

TEST_CASE("the automatic layout holds the model in order and spreads it evenly",
          "[config][property]") {
  const auto layers = GENERATE(4, 12, 27, 61, 126);
  const auto dense = GENERATE(0, 1, 3);
  const auto mtp = GENERATE(0, 1, 2);
  const auto stages = GENERATE(1, 2, 3, 4, 5);
  CAPTURE(layers, dense, mtp, stages);
  const ModelSpec model = model_of(layers, dense, mtp);
  const PipelineLayout layout = automatic_layout(model, stages);
  REQUIRE_NOTHROW(check_layout(layout, model, stages, 1));
  const std::int64_t tail = 1 + 2 * mtp;  // heads and MTP modules, all on the last stage
  std::int64_t least = layers;
  std::int64_t most = 0;
  for (int stage = 0; stage + 1 < stages; ++stage) {
    const std::int64_t n = hidden_layers(layout[static_cast<std::size_t>(stage)]);
    REQUIRE((stage == 0 || n <= most));  // larger shares first
    least = std::min(least, n);
    most = std::max(most, n);
  }
  if (stages > 1) {
    REQUIRE(most - least <= 1);
    const std::int64_t last = hidden_layers(layout.back());
    REQUIRE((last == 0 || most - (last + tail) <= 1));
    REQUIRE((last == 0 || last + tail <= least));
  }
}

TEST_CASE("more stages than layers is refused", "[config]") {
  REQUIRE_THROWS_WITH(automatic_layout(model_of(4, 1, 1), 6), "4 layers are too few for 6 stages");
  REQUIRE_THROWS_WITH(parse_stage("moe*4096 moe"), "holds more than 4096 layers");
}
