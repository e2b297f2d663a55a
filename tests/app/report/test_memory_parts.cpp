#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "app/report/gpt_layer_report.hpp"
#include "app/report/inference_memory_report.hpp"
#include "app/report/model_instance_report.hpp"
#include "base/error.hpp"
#include "model/models.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Json = nlohmann::ordered_json;

namespace {

const Bytes kCapacity(84'943'110'144);  // of an 80 GB H800, as the device shows it
const Bytes kReserve(4'000'000'000);

const std::map<std::string, GqaModel>& dense_models() {
  static const std::map<std::string, GqaModel> kModels = {{"llama-405b", llama_405b()},
                                                          {"qwen-72b", qwen_72b()}};
  return kModels;
}

/// DeepSeek-V3's prefill unit: report (arXiv 2412.19437), section 3.4.1.
InferencePlan prefill() {
  return {.tp = 4,
          .dense_tp = 1,
          .dp = 8,
          .ep = 32,
          .extra_experts = 32,
          .capacity = kCapacity,
          .reserve = kReserve};
}

std::string megabytes(std::int64_t bytes) {
  return fmt::format("{:.3f} MB", static_cast<double>(bytes) / 1e6);
}

/// Of the first line that begins with these words.
std::string line_of(const std::string& text, const std::string& start) {
  const std::size_t at = ('\n' + text).find('\n' + start);
  REQUIRE(at != std::string::npos);
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace

TEST_CASE("the report on a GPT layer shows each tensor, the sum beside the formula, each variant",
          "[memory][report]") {
  const GptLayerReport report =
      gpt_layer_report({.sequence = 2048, .hidden = 12288, .heads = 96, .tensor_parallel = 8});
  const std::string text = gpt_layer_text(report);
  const Json json = gpt_layer_json(report);
  std::int64_t sum = 0;
  for (const Json& tensor : json.at("tensors")) {
    const std::string name = tensor.at("name");
    const std::int64_t bytes = tensor.at("bytes");
    REQUIRE(bytes == tensor.at("rows").get<std::int64_t>() *
                         tensor.at("columns").get<std::int64_t>() *
                         tensor.at("bytes_per_element").get<std::int64_t>());
    REQUIRE_THAT(line_of(text, name + ' '),
                 Contains(megabytes(bytes)) && Contains(tensor.at("reason").get<std::string>()));
    sum += bytes;
  }
  REQUIRE(json.at("kept_bytes") == sum);
  REQUIRE(json.at("formula_bytes").get<double>() == Approx(static_cast<double>(sum)));
  REQUIRE_THAT(line_of(text, "sum "), Contains(megabytes(sum)));
  REQUIRE_THAT(line_of(text, "formula "),
               Contains(megabytes(sum)) && Contains("s b h (10 + 24/t + 5 a s / (h t))"));
  REQUIRE(json.at("variants").size() == 6);
  const std::string variants = text.substr(text.find("the same layer with"));
  for (const Json& variant : json.at("variants")) {
    const std::int64_t kept = variant.at("kept_bytes");
    REQUIRE_THAT(line_of(variants, variant.at("name").get<std::string>() + "  "),
                 Contains(megabytes(kept)) && Contains(variant.at("formula").get<std::string>()));
  }
  REQUIRE(json.at("shape").at("recompute") == "none");
}

TEST_CASE("a variant that cannot be is said to be none", "[memory][report]") {
  const GptLayerReport report =
      gpt_layer_report({.sequence = 2047, .hidden = 12288, .heads = 96, .tensor_parallel = 8});
  REQUIRE(gpt_layer_json(report).at("variants").at(2).at("kept_bytes").is_null());
  REQUIRE_THAT(line_of(gpt_layer_text(report), "tensor and sequence "),
               Contains("t does not divide s"));
}

TEST_CASE("the report on serving compares caches and says what fits", "[memory][report]") {
  const InferenceReport report =
      inference_report(deepseek_v3(), prefill(), {1, 4096}, dense_models());
  const std::string text = inference_text(report);
  const Json json = inference_json(report);
  // Table 1 of arXiv 2505.09343, and 656 bytes a layer of FlashMLA's FP8.
  REQUIRE_THAT(line_of(text, "deepseek-v3 "), Contains("70.272 KB") && Contains("40.016 KB"));
  REQUIRE_THAT(line_of(text, "qwen-72b"), Contains("327.680 KB") && Contains("4.66"));
  REQUIRE_THAT(line_of(text, "llama-405b"), Contains("516.096 KB") && Contains("GQA"));
  const Json& caches = json.at("kv_cache");
  REQUIRE(caches.size() == 4);
  REQUIRE(caches.at(0).at("bf16_bytes_per_token") == 70'272);
  REQUIRE(caches.at(1).at("attention") == "MHA");
  REQUIRE(caches.at(1).at("bf16_bytes_per_token") == 61 * 128 * (192 + 128) * 2);

  const Json& stage = json.at("stages").at(0);
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : stage.at("weights_bytes").items()) {
    if (name != "total") sum += bytes.get<std::int64_t>();
  }
  REQUIRE(stage.at("weights_bytes").at("total") == sum);
  REQUIRE(stage.at("free_bytes") == kCapacity.count() - kReserve.count() - sum);
  const std::int64_t tokens = json.at("tokens_per_replica");
  REQUIRE(tokens == stage.at("tokens"));
  REQUIRE(json.at("tokens") == 8 * tokens);
  REQUIRE(json.at("requests").at(0).at("per_replica") == tokens);
  REQUIRE(json.at("requests").at(1).at("per_replica") == tokens / 4096);
  REQUIRE(json.at("requests").at(1).at("total") == 8 * (tokens / 4096));
  REQUIRE(json.at("requests").at(1).at("bf16_bytes") == 4096 * 70'272);
  REQUIRE_THAT(text, Contains("32 GPUs: tp=4 dense_tp=1 pp=1 dp=8 ep=32"));

  InferencePlan alone = prefill();
  alone.tp = alone.dp = alone.ep = 1;
  alone.extra_experts = 0;
  REQUIRE_THAT(inference_text(inference_report(deepseek_v3(), alone, {}, {})),
               Contains("The weights alone do not fit."));
  REQUIRE_THROWS_WITH(inference_report(deepseek_v3(), prefill(), {0}, {}),
                      "a request has at least one token, not 0");
}

TEST_CASE("a dense model whose heads all have keys is called MHA", "[memory][report]") {
  GqaModel model = qwen_72b();
  model.kv_heads = model.heads;
  const std::vector<KvCacheRow> rows = kv_cache_rows(deepseek_v3(), {{"all", model}});
  REQUIRE(rows.back().attention == "MHA");
}

TEST_CASE("the report on one instance answers for 64 GPUs", "[memory][report]") {
  const InstanceReport report =
      instance_report(deepseek_v3(), MtpModules::kExcluded, 64, kCapacity, kReserve);
  const std::string text = instance_text(report);
  const Json json = instance_json(report);
  const std::int64_t parameters = json.at("parameters");
  const std::int64_t usable = kCapacity.count() - kReserve.count();
  REQUIRE(json.at("bytes_per_parameter").get<double>() ==
          Approx(64.0 * static_cast<double>(usable) / static_cast<double>(parameters)));
  REQUIRE(json.at("recipes").size() == instance_recipes().size());
  for (const Json& recipe : json.at("recipes")) {
    CAPTURE(recipe.at("name"));
    const std::int64_t total = recipe.at("total_bytes");
    REQUIRE(total == recipe.at("weights_bytes").get<std::int64_t>() +
                         recipe.at("gradients_bytes").get<std::int64_t>() +
                         recipe.at("optimizer_bytes").get<std::int64_t>());
    REQUIRE(recipe.at("gpus_to_fill") == ceil_div(total, usable));
    REQUIRE(recipe.at("zero").size() == 4);
    const bool trains = recipe.at("gradients_bytes") > 0;
    for (const Json& stage : recipe.at("zero")) {
      REQUIRE(stage.at("fits") == (stage.at("total_bytes").get<std::int64_t>() <= usable));
      // Inference weights fit on 64 GPUs if spread, training states do not at all.
      REQUIRE(stage.at("fits") == (!trains && stage.at("stage") == 3));
      REQUIRE(stage.at("fewest_gpus").is_null() == (stage.at("stage") != 3));
    }
    REQUIRE(recipe.at("zero").at(3).at("fewest_gpus") == recipe.at("gpus_to_fill"));
    const std::string name = recipe.at("name");
    REQUIRE_THAT(line_of(text, name + ' '),
                 Contains(fmt::format("{:.1f} GB", static_cast<double>(total) / 1e9)));
  }
  REQUIRE_THAT(text.substr(text.find("On each of 64 GPUs")), Contains("with ZeRO-3"));
  REQUIRE_THROWS_WITH(instance_report(deepseek_v3(), MtpModules::kExcluded, 64, kReserve, kReserve),
                      "a reserve of 4000000000 bytes leaves nothing of 4000000000");
}
