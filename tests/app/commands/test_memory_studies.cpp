#include <catch2/catch.hpp>

#include "app/memory/memory_options.hpp"
#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

const std::string kScenario = PIPECAST_SOURCE_DIR "/configs/scenarios/deepseek-v3-h800.yaml";

}  // namespace

TEST_CASE("a serving plan takes every key once", "[memory]") {
  const InferencePlan plan = parse_inference_plan(
      "tp=4,dense_tp=1,pp=2,dp=8,ep=32,extra_experts=64,shared_as_routed,weights=bf16,cache=fp8");
  REQUIRE(plan.tp == 4);
  REQUIRE(plan.dense_tp == 1);
  REQUIRE(plan.pp == 2);
  REQUIRE(plan.dp == 8);
  REQUIRE(plan.ep == 32);
  REQUIRE(plan.extra_experts == 64);
  REQUIRE(plan.shared_as_routed);
  REQUIRE(plan.weights == Precision::kBf16);
  REQUIRE(plan.cache == Precision::kFp8);
  const InferencePlan as_is = parse_inference_plan("");
  REQUIRE(as_is.tp == 1);
  REQUIRE_FALSE(as_is.dense_tp.has_value());
}

TEST_CASE("a GPT layer takes its letters", "[memory]") {
  const GptLayerShape shape =
      parse_gpt_layer("s=2048,b=4,h=12288,a=96,t=8,sequence_parallel,recompute=selective");
  REQUIRE(shape.sequence == 2048);
  REQUIRE(shape.micro_batch == 4);
  REQUIRE(shape.hidden == 12288);
  REQUIRE(shape.heads == 96);
  REQUIRE(shape.tensor_parallel == 8);
  REQUIRE(shape.sequence_parallel);
  REQUIRE(shape.recompute == GptRecompute::kSelective);
}

TEST_CASE("what studies cannot be asked is refused with what was expected", "[memory]") {
  REQUIRE_THROWS_WITH(parse_inference_plan("tpp=4"), Contains("unknown key 'tpp'") &&
                                                         Contains("did you mean 'tp'") &&
                                                         Contains("known: tp, dense_tp"));
  REQUIRE_THROWS_WITH(parse_inference_plan("tp=4,tp=2"), "--inference: tp is given twice");
  for (const char* const text : {"tp=0", "tp=", "tp", "tp=four", "tp=4x", "tp=99999999999"}) {
    CAPTURE(text);
    REQUIRE_THROWS_WITH(parse_inference_plan(text),
                        Contains("expected a whole number from 1 to 2147483647"));
  }
  REQUIRE_THROWS_WITH(parse_inference_plan("weights=int4"),
                      "--inference: weights is 'int4'; expected one of: fp8, bf16");
  REQUIRE_THROWS_WITH(parse_inference_plan("shared_as_routed=yes"),
                      "--inference: shared_as_routed takes no value, got 'yes'");
  REQUIRE_THROWS_WITH(parse_gpt_layer("s=2048,a=96"), Contains("h is missing"));
  REQUIRE_THROWS_WITH(parse_contexts("4096,,8"), Contains("got ''; expected tokens of requests"));
  REQUIRE_THROWS_WITH(parse_contexts("0"), Contains("got '0'"));
  REQUIRE(parse_contexts("4096,32768") == std::vector<std::int64_t>{4096, 32768});
}

TEST_CASE("kept tensors of a layer sum to what it keeps, recomputed ones apart", "[memory]") {
  const Json kept = run_command("memory", {kScenario, "--kept"})["kept"];
  const Json full =
      run_command("memory", {kScenario, "--kept", "--set", "plan.recompute_modules=full"})["kept"];
  REQUIRE(kept["layers"].size() == 5);
  REQUIRE(full["layers"].size() == 5);
  for (const Json& layer : kept["layers"]) {
    std::int64_t sum = 0;
    for (const Json& tensor : layer["tensors"]) {
      REQUIRE_FALSE(tensor["recomputed"].get<bool>());
      REQUIRE_FALSE(tensor["reason"].get<std::string>().empty());
      sum += tensor["bytes"].get<std::int64_t>();
    }
    REQUIRE(sum == layer["bytes"].get<std::int64_t>());
  }
  // Whole layers recomputed: a MoE layer keeps its BF16 input alone.
  for (const Json& layer : full["layers"]) {
    if (layer["layer"] == "moe") REQUIRE(layer["bytes"] == 4096 * 7168 * 2);
  }
}

TEST_CASE("published KV caches come out exactly", "[memory]") {
  const Json out =
      run_command("memory", {kScenario, "--inference", "ep=320,dp=320,extra_experts=64"});
  std::map<std::string, std::int64_t> bytes;
  for (const Json& row : out["inference"]["kv_cache"]) {
    bytes[row["model"]] = row["bf16_bytes_per_token"];
  }
  REQUIRE(bytes.at("deepseek-v3") == 70'272);
  REQUIRE(bytes.at("qwen-72b") == 327'680);
  REQUIRE(bytes.at("llama-405b") == 516'096);
}

TEST_CASE("one instance does not train on 64 GPUs", "[memory]") {
  const Json out = run_command("memory", {kScenario, "--instance", "64"})["instance"];
  REQUIRE(out["gpus"] == 64);
  int trained = 0;
  for (const Json& recipe : out["recipes"]) {
    const bool trains = recipe["optimizer_bytes"].get<std::int64_t>() > 0;
    trained += trains ? 1 : 0;
    for (const Json& zero : recipe["zero"]) {
      if (trains) REQUIRE_FALSE(zero["fits"].get<bool>());
    }
  }
  REQUIRE(trained == 3);
}

TEST_CASE("a GPT layer needs no scenario and agrees with its formula", "[memory]") {
  const Json out = run_command("memory", {"--gpt-layer", "s=2048,h=12288,a=96,t=8"})["gpt_layer"];
  REQUIRE(out["kept_bytes"].get<double>() == out["formula_bytes"].get<double>());
}

TEST_CASE("headroom stands beside the tables", "[memory]") {
  const std::string tiny = PIPECAST_SOURCE_DIR "/configs/scenarios/tiny-moe-h100.yaml";
  const Json out = run_command("memory", {tiny, "--headroom"});
  REQUIRE(out["ranks"].size() == 4);
  REQUIRE(out["headroom"]["seq_length"]["largest"].get<double>() >=
          out["headroom"]["seq_length"]["present"].get<double>());
}

TEST_CASE("studies of memory exclude each other", "[memory]") {
  REQUIRE_THROWS_WITH(run_command("memory", {kScenario, "--kept", "--instance", "64"}),
                      "--kept, --instance exclude each other");
  REQUIRE_THROWS_WITH(run_command("memory", {kScenario, "--kept", "--svg", "x.svg"}),
                      Contains("--svg draws or picks from a step"));
  REQUIRE_THROWS_WITH(run_command("memory", {"--kept"}), Contains("a scenario file is missing"));
  REQUIRE_THROWS_WITH(run_command("memory", {kScenario, "--instance", "0"}),
                      Contains("--instance: 0 is not positive"));
}
