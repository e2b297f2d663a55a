#include <catch2/catch.hpp>

#include "app/config/load.hpp"

using namespace pipecast;

namespace {

const std::filesystem::path kSeeds =
    std::filesystem::path(PIPECAST_SOURCE_DIR) / "tests/fuzz/corpus/hf_config";

}  // namespace

TEST_CASE("DeepSeek-V3's config.json and the shipped model file mean the same", "[config]") {
  const ModelSpec json = load_model(kSeeds / "deepseek-v3.json");
  const ModelSpec yaml = load_model(config_directory() / "models" / "deepseek-v3.yaml");
  REQUIRE(json.hidden_size == yaml.hidden_size);
  REQUIRE(json.num_hidden_layers == yaml.num_hidden_layers);
  REQUIRE(json.first_k_dense_replace == yaml.first_k_dense_replace);
  REQUIRE(json.intermediate_size == yaml.intermediate_size);
  REQUIRE(json.vocab_size == yaml.vocab_size);
  REQUIRE(json.num_attention_heads == yaml.num_attention_heads);
  REQUIRE(json.q_lora_rank == yaml.q_lora_rank);
  REQUIRE(json.kv_lora_rank == yaml.kv_lora_rank);
  REQUIRE(json.qk_head_dim() == yaml.qk_head_dim());
  REQUIRE(json.v_head_dim == yaml.v_head_dim);
  REQUIRE(json.n_routed_experts == yaml.n_routed_experts);
  REQUIRE(json.n_shared_experts == yaml.n_shared_experts);
  REQUIRE(json.num_experts_per_tok == yaml.num_experts_per_tok);
  REQUIRE(json.moe_intermediate_size == yaml.moe_intermediate_size);
  REQUIRE(json.n_group == yaml.n_group);
  REQUIRE(json.topk_group == yaml.topk_group);
  REQUIRE(json.num_nextn_predict_layers == yaml.num_nextn_predict_layers);
  REQUIRE(json.tie_word_embeddings == yaml.tie_word_embeddings);
}

TEST_CASE("the other members of the family load: V2, V2-Lite, Kimi K2", "[config]") {
  REQUIRE(load_model(kSeeds / "deepseek-v2.json").topk_group == 3);
  // Lite projects its queries in one step; V2's files know no multi-token prediction.
  const ModelSpec lite = load_model(kSeeds / "deepseek-v2-lite.json");
  REQUIRE_FALSE(lite.q_lora_rank.has_value());
  REQUIRE(lite.num_nextn_predict_layers == 0);
  REQUIRE(load_model(kSeeds / "kimi-k2.json").n_group == 1);
}

TEST_CASE("a config.json gives the model its folder's name, or its own", "[config]") {
  const auto text = config::read_file(kSeeds / "deepseek-v3.json");
  const auto read = [&](const std::filesystem::path&) { return text; };
  REQUIRE(load_model("models/DeepSeek-V3/config.json", read).name == "DeepSeek-V3");
  REQUIRE(load_model("config.json", read).name == "config");
}

TEST_CASE("a scenario takes a config.json, keys beside it override", "[config]") {
  const auto scenario = config_directory() / "scenarios" / "deepseek-v3-h800.yaml";
  const std::string set = "model={hf_config: " + (kSeeds / "deepseek-v3.json").string() +
                          ", vocab_size: 1024, name: mine}";
  const Scenario s = load_scenario(scenario, {set}).scenario;
  REQUIRE(s.model.hidden_size == 7168);
  REQUIRE(s.model.vocab_size == 1024);
  REQUIRE(s.model.name == "mine");
}
