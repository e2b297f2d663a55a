#include <catch2/catch.hpp>

#include "app/report/model_report.hpp"
#include "base/error.hpp"
#include "model/models.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;

namespace {

const std::string kModel = PIPECAST_SOURCE_DIR "/configs/models/deepseek-v3.yaml";

}  // namespace

TEST_CASE("`model` gives the keys of the contract", "[commands]") {
  const nlohmann::json out = run_command("model", {kModel});
  for (const char* key :
       {"total", "activated", "embedding", "head", "mtp", "attention_per_layer", "expert"}) {
    CAPTURE(key);
    REQUIRE(out.at("parameters").at(key).get<std::int64_t>() > 0);
  }
  const ParameterCount p = count_parameters(deepseek_v3());
  REQUIRE(out.at("parameters").at("total") == p.total);
  REQUIRE(out.at("kv_cache_bytes_per_token") == 61 * (512 + 64) * 2);
  REQUIRE(out.at("flop_per_token_causal") < out.at("flop_per_token_noncausal"));
}

TEST_CASE("`model` lists layers that sum to the model", "[commands]") {
  const nlohmann::json out = run_command("model", {kModel});
  const ParameterCount p = count_parameters(deepseek_v3());
  std::int64_t sum = 0;
  std::int64_t layers = 0;
  for (const auto& layer : out.at("layers")) {
    const bool head = layer.at("kind") == "head";  // used twice with MTP, owned once
    const auto count = layer.at("count").get<std::int64_t>();
    sum += (head ? 1 : count) * layer.at("parameters").get<std::int64_t>();
    if (layer.at("kind") == "dense" || layer.at("kind") == "moe") layers += count;
    REQUIRE_FALSE(layer.at("operations").empty());
  }
  REQUIRE(layers == 61);
  REQUIRE(sum == p.total + p.norms + p.router_bias + p.mtp + p.mtp_vectors);
}

TEST_CASE("`model` lists operations as the options ask for them", "[commands]") {
  const auto forward = [](const nlohmann::json& out) {
    return out.at("layers").at(2).at("operations");  // embedding, dense, moe
  };
  const auto plain = forward(run_command("model", {kModel}));
  REQUIRE_FALSE(plain.contains("dispatch(F)"));
  const auto shared = forward(run_command("model", {kModel, "--ep", "64"}));
  REQUIRE(shared.at("dispatch(F)").back().at("op") == "ep_dispatch");
  const auto bf16 = run_command("model", {kModel, "--precision", "bf16"}).dump();
  REQUIRE(bf16.find("fp8") == std::string::npos);
  const auto count = [&](const std::vector<std::string>& arguments) {
    return forward(run_command("model", arguments)).at("attn(B)").size();
  };
  REQUIRE(count({kModel, "--recompute"}) > count({kModel}));
}

TEST_CASE("`model` reads a checkpoint's config.json", "[commands]") {
  const TemporaryFile file("config");
  const std::string path = file.path() + ".json";
  std::ofstream(path) << R"({"model_type": "deepseek_v3", "hidden_size": 7168,
    "num_hidden_layers": 61, "first_k_dense_replace": 3, "intermediate_size": 18432,
    "vocab_size": 129280, "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_group": 8,
    "topk_group": 4, "num_nextn_predict_layers": 1, "tie_word_embeddings": false})";
  const nlohmann::json out = run_command("model", {path});
  std::filesystem::remove(path);
  REQUIRE(out.at("parameters") == run_command("model", {kModel}).at("parameters"));
}

TEST_CASE("`model` refuses options that mean nothing", "[commands]") {
  REQUIRE_THROWS_WITH(run_command("model", {kModel, "--precision", "fp4"}),
                      "--precision: unknown 'fp4'; it is fp8 or bf16");
  REQUIRE_THROWS_WITH(run_command("model", {kModel, "--ep", "7"}),
                      "256 routed experts cannot be split evenly over ep=7 GPUs");
  REQUIRE_THROWS_WITH(run_command("model", {kModel, "--seq-length", "0"}),
                      "seq_length must be positive: 0");
}

TEST_CASE("the model's tables name every part once", "[report]") {
  const ModelReport report = model_report(deepseek_v3(), deepseek_v3_plan(), kSequence);
  const std::string text = model_text(report, false);
  for (const char* part : {"671.025 B", "70.272 KB", "attention_per_layer", "58 x moe",
                           "causal attention", "attn(F)", "mlp(W)"}) {
    REQUIRE_THAT(text, Contains(part));
  }
  REQUIRE(text.find("gemm_fp8") == std::string::npos);
  REQUIRE_THAT(model_text(report, true), Contains("4096 x 24576 x 1536"));
}
