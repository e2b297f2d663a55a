#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "app/report/result_json.hpp"
#include "app/report/result_schema.hpp"
#include "json_schema.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

using Json = nlohmann::json;

/// The keys that the contract promises; a list's only entry stands for each of its entries.
const char* const kPromised = R"({
  "format": 0, "version": 0, "scenario": 0, "mode": 0, "seed": 0, "config": {},
  "step": {
    "time_s": 0, "tokens": 0, "tokens_per_day": 0,
    "breakdown_s": {"forward": 0, "backward_input": 0, "backward_full": 0, "backward_weight": 0,
                    "overlapped": 0, "optimizer": 0, "communication_exposed": 0, "bubble": 0},
    "overlap_s": {"communication": 0, "hidden": 0, "exposed": 0, "waiting_for_peers": 0},
    "ranks": [{
      "pipeline_rank": 0, "time_s": 0,
      "breakdown_s": {"forward": 0, "backward_input": 0, "backward_full": 0, "backward_weight": 0,
                      "overlapped": 0, "optimizer": 0, "communication_exposed": 0, "bubble": 0},
      "overlap_s": {"communication": 0, "hidden": 0, "exposed": 0, "waiting_for_peers": 0},
      "memory_bytes": {"weights": 0, "gradients": 0, "optimizer": 0, "activations": 0,
                       "communication": 0, "workspace": 0, "total": 0, "capacity": 0}}]},
  "parameters": {"total": 0, "activated": 0, "per_rank": [0]},
  "throughput": {"tflops_per_gpu_causal": 0, "tflops_per_gpu_noncausal": 0, "mfu_causal": 0,
                 "mfu_noncausal": 0, "flop_per_token_causal": 0, "flop_per_token_noncausal": 0},
  "run": {"tokens": 0, "gpu_hours_per_trillion_tokens": 0, "days_per_trillion_tokens": 0,
          "days": 0, "gpu_hours": 0, "cost_usd": 0,
          "phases": [{"name": 0, "source": 0, "tokens": 0, "gpu_hours": 0, "days": 0,
                      "cost_usd": 0}]},
  "forecast": {"step_time_s": {"low": 0, "default": 0, "high": 0},
               "gpu_hours_per_trillion_tokens": {"low": 0, "default": 0, "high": 0},
               "cost_usd": {"low": 0, "default": 0, "high": 0}},
  "assumptions": [{"key": 0, "value": 0, "low": 0, "high": 0, "reason": 0}],
  "sensitivities": [{"resource": 0, "step_percent_per_percent": 0}],
  "critical_path": [{"operation": 0, "resource": 0, "pipeline_rank": 0, "seconds": 0}],
  "provenance": [{"operation": 0, "kind": 0, "source": 0}],
  "routing": {"expert_load_max_over_mean": 0, "gpu_load_max_over_mean": 0,
              "nodes_per_token_mean": 0},
  "network": {"nvlink": {"bytes": 0, "busy_fraction": 0}, "nic": {"bytes": 0, "busy_fraction": 0}},
  "simulator": {"wall_s": 0, "events": 0, "events_per_s": 0, "simulated_gpus": 0,
                "peak_rss_bytes": 0}
})";

void require_keys(const Json& promised, const Json& actual, const std::string& path) {
  CAPTURE(path);
  if (promised.is_array()) {
    REQUIRE(actual.is_array());
    REQUIRE_FALSE(actual.empty());
    for (const Json& entry : actual) require_keys(promised.front(), entry, path + "[]");
  }
  if (!promised.is_object()) return;
  REQUIRE(actual.is_object());
  for (const auto& [key, value] : promised.items()) {
    CAPTURE(key);
    REQUIRE(actual.contains(key));
    require_keys(value, actual[key], path + "." + key);
  }
}

Json result_of(const std::string& scenario, SimulationMode mode = SimulationMode::kFolded) {
  const LoadedScenario loaded = load_scenario(
      std::string(PIPECAST_SOURCE_DIR) + "/configs/scenarios/" + scenario + ".yaml", {});
  const Forecast f = forecast(loaded.scenario, {.mode = mode, .threads = 2});
  const SimulatorCost cost{.wall_s = 0.5, .peak_rss_bytes = 1};
  // Through text, as a reader gets it.
  return Json::parse(result_json(loaded.scenario, f, mode, 1, config_json(loaded), cost).dump());
}

void require_sums_to(const Json& breakdown, double time_s) {
  double sum = 0;
  for (const Json& share : breakdown) sum += share.get<double>();
  REQUIRE(sum == Approx(time_s).epsilon(1e-9));
}

}  // namespace

TEST_CASE("a result has every key of the contract", "[result]") {
  const auto* const scenario = GENERATE("tiny-moe-h100", "deepseek-v3-h800");
  const Json result = result_of(scenario);
  require_keys(Json::parse(kPromised), result, "");
  REQUIRE(result["format"] == "pipecast-result/1");
  REQUIRE(result["scenario"] == scenario);
  REQUIRE(result["mode"] == "folded");
}

TEST_CASE("results of the shipped scenarios are valid by the result's schema", "[result][schema]") {
  const auto* const scenario = GENERATE("tiny-moe-h100", "deepseek-v3-h800");
  const Json schema = Json::parse(result_schema().dump());
  REQUIRE(complaints(schema, result_of(scenario)) == "");
}

TEST_CASE("the result's schema refuses a missing, an unknown and a wrong key", "[result][schema]") {
  const Json schema = Json::parse(result_schema().dump());
  const Json good = result_of("tiny-moe-h100");
  Json bad = good;
  bad["step"].erase("time_s");
  REQUIRE(complaints(schema, bad) != "");
  bad = good;
  bad["step"]["ranks"][0]["surprise"] = 1;
  REQUIRE(complaints(schema, bad) != "");
  bad = good;
  bad["run"]["phases"][0]["source"] = "guessed";
  REQUIRE(complaints(schema, bad) != "");
  bad = good;
  bad["format"] = "pipecast-result/2";
  REQUIRE(complaints(schema, bad) != "");
}

TEST_CASE("the committed schema of results is what the code gives", "[result][schema]") {
  // Run with PIPECAST_REGENERATE=1 to write it anew.
  const std::string path = std::string(PIPECAST_SOURCE_DIR) + "/configs/schemas/result.json";
  const std::string expected = result_schema().dump(2) + "\n";
  if (std::getenv("PIPECAST_REGENERATE") != nullptr) std::ofstream(path) << expected;
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  REQUIRE(text.str() == expected);
}

TEST_CASE("the parts of every rank's time sum to the step's", "[result]") {
  const auto* const scenario = GENERATE("tiny-moe-h100", "deepseek-v3-h800");
  const Json result = result_of(scenario);
  const Json& step = result["step"];
  const auto time_s = step["time_s"].get<double>();
  require_sums_to(step["breakdown_s"], time_s);
  for (const Json& rank : step["ranks"]) {
    REQUIRE(rank["time_s"] == time_s);
    require_sums_to(rank["breakdown_s"], time_s);
  }
}

TEST_CASE("a rank's memory is the sum of its parts and fits", "[result]") {
  const Json result = result_of("deepseek-v3-h800");
  for (const Json& rank : result["step"]["ranks"]) {
    const Json& memory = rank["memory_bytes"];
    std::int64_t sum = 0;
    for (const auto* part :
         {"weights", "gradients", "optimizer", "activations", "communication", "workspace"})
      sum += memory[part].get<std::int64_t>();
    REQUIRE(memory["total"] == sum);
    REQUIRE(sum <= memory["capacity"].get<std::int64_t>());
  }
}

TEST_CASE("the critical path's seconds sum to the step's", "[result]") {
  const Json result = result_of("tiny-moe-h100");
  double sum = 0;
  for (const Json& share : result["critical_path"]) sum += share["seconds"].get<double>();
  REQUIRE(sum == Approx(result["step"]["time_s"].get<double>()).epsilon(1e-9));
}

TEST_CASE("the means over ranks are exact: what division leaves is bubble", "[result]") {
  StepTimes times;
  times.time = picoseconds(10);
  for (const int forward : {1, 2, 2}) {
    RankTimes rank{};
    rank.breakdown[static_cast<std::size_t>(TimeCategory::kForward)] = picoseconds(forward);
    rank.breakdown[static_cast<std::size_t>(TimeCategory::kBubble)] = picoseconds(10 - forward);
    rank.overlap.hidden = picoseconds(3 * forward);
    times.ranks.push_back(rank);
  }
  const auto mean = mean_breakdown(times);
  REQUIRE(mean[static_cast<std::size_t>(TimeCategory::kForward)] == picoseconds(5 / 3));
  REQUIRE(mean[static_cast<std::size_t>(TimeCategory::kBubble)] == picoseconds(10 - 5 / 3));
  REQUIRE(mean_overlap(times).hidden == picoseconds(3 * (1 + 2 + 2) / 3));
}
