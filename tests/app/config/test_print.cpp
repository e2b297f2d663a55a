#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "app/config/load.hpp"

using namespace pipecast;

namespace {

const std::vector<std::string> kScenarios = {"deepseek-v3-h800.yaml", "tiny-moe-h100.yaml"};

LoadedScenario load_shipped(const std::string& name, const std::vector<std::string>& sets = {}) {
  return load_scenario(config_directory() / "scenarios" / name, sets);
}

LoadedScenario load_text(const std::string& text) {
  return load_scenario("printed.yaml", {}, [&](const std::filesystem::path&) { return text; });
}

/// Printed lines with the comments, which name files, cut off.
std::string without_comments(const std::string& printed) {
  std::istringstream in(printed);
  std::string out;
  for (std::string line; std::getline(in, line);) out += line.substr(0, line.find("  # ")) + "\n";
  return out;
}

/// The line that holds `key`.
std::string line_of(const std::string& printed, const std::string& key) {
  const std::size_t at = printed.find(key);
  REQUIRE(at != std::string::npos);
  return printed.substr(at, printed.find('\n', at) - at);
}

}  // namespace

TEST_CASE("a printed configuration loads to the same configuration and prints the same",
          "[config]") {
  for (const std::string& name : kScenarios) {
    CAPTURE(name);
    const LoadedScenario loaded = load_shipped(name);
    const std::string printed = print_config(loaded);
    const LoadedScenario again = load_text(printed);
    REQUIRE(config_json(again) == config_json(loaded));
    REQUIRE(without_comments(print_config(again)) == without_comments(printed));
    REQUIRE(again.scenario.plan.pipeline_layout == loaded.scenario.plan.pipeline_layout);
    REQUIRE(again.scenario.cluster.nic.bandwidth == loaded.scenario.cluster.nic.bandwidth);
    REQUIRE(again.scenario.cluster.nvlink.latency == loaded.scenario.cluster.nvlink.latency);
    REQUIRE(again.scenario.recipe.phases.size() == loaded.scenario.recipe.phases.size());
  }
}

TEST_CASE("texts that YAML would misread survive printing", "[config]") {
  const std::string name =
      GENERATE(as<std::string>{}, "null", "true", "16", "1e3", "0x10", "~", "a: b", "a #b", "- a",
               "\"quoted\"", "back\\slash", "two\nlines", "tab\tin", " space ", "*star", "&and",
               "{brace}", "caf\u00e9", "2026-01-01", "yes", "%percent", "@at", "`tick`", "!tag");
  CAPTURE(name);
  LoadedScenario loaded = load_shipped("tiny-moe-h100.yaml");
  loaded.resolved.find("name")->text = name;
  REQUIRE(load_text(print_config(loaded)).scenario.name == name);
}

TEST_CASE("behind every printed value stands where it comes from", "[config]") {
  const std::string printed =
      print_config(load_shipped("tiny-moe-h100.yaml", {"plan.communication_sms=24"}));
  REQUIRE_THAT(line_of(printed, "communication_sms"),
               Catch::EndsWith("24  # --set plan.communication_sms=24"));
  REQUIRE_THAT(line_of(printed, "  cp:"), Catch::EndsWith("1  # default"));
  REQUIRE_THAT(line_of(printed, "sm_count"), Catch::EndsWith("configs/gpus/h100.yaml:4"));
}

TEST_CASE("the configuration in results has numbers as numbers and quantities as texts",
          "[config]") {
  const LoadedScenario loaded = load_shipped("deepseek-v3-h800.yaml");
  const auto json = config_json(loaded);
  REQUIRE(json["plan"]["pp"] == 16);
  REQUIRE(json["cluster"]["nic"]["bandwidth"] == "400 Gb/s");
  REQUIRE(json["calibration"]["link"]["hbm"]["value"] ==
          loaded.scenario.calibration.link.hbm.value);
  REQUIRE(json["model"]["tie_word_embeddings"] == false);
  REQUIRE(json["recipe"]["phases"][0]["global_batch_size"]["from"] == 3072);
}
