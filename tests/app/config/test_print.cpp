#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "app/config/load.hpp"

using namespace pipecast;

namespace {

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

bool same(const OverlapSpec& a, const OverlapSpec& b) {
  return a.communication == b.communication &&
         a.weight_gradient_streams == b.weight_gradient_streams && a.order == b.order;
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
  for (const std::string& name : shipped_names("scenarios")) {
    CAPTURE(name);
    const LoadedScenario loaded = load_shipped(name + ".yaml");
    const std::string printed = print_config(loaded);
    const LoadedScenario again = load_text(printed);
    REQUIRE(config_json(again) == config_json(loaded));
    REQUIRE(without_comments(print_config(again)) == without_comments(printed));
    REQUIRE(again.scenario.plan.pipeline_layout == loaded.scenario.plan.pipeline_layout);
    REQUIRE(again.scenario.plan.communication_sms == loaded.scenario.plan.communication_sms);
    REQUIRE(same(again.scenario.plan.overlap, loaded.scenario.plan.overlap));
    REQUIRE(again.scenario.cluster.nic.bandwidth == loaded.scenario.cluster.nic.bandwidth);
    REQUIRE(again.scenario.cluster.nvlink.latency == loaded.scenario.cluster.nvlink.latency);
    REQUIRE(again.scenario.recipe.phases.size() == loaded.scenario.recipe.phases.size());
  }
}

TEST_CASE("an order of launches is read as it stands, printed and read again", "[config]") {
  // A forward and then a backward, each in its own order: the order in which phases are declared.
  std::array<Phase, kPhases> order{};
  std::string list;
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<Phase>(i);
    list += (i == 0 ? "" : ", ") + std::string(name_of(order[i]));
  }
  REQUIRE(order != OverlapSpec{}.order);
  const LoadedScenario loaded =
      load_shipped("tiny-moe-h100.yaml", {"plan.overlap.order=[" + list + "]"});
  REQUIRE(loaded.scenario.plan.overlap.order == order);
  REQUIRE(load_text(print_config(loaded)).scenario.plan.overlap.order == order);
  REQUIRE(config_json(loaded)["plan"]["overlap"]["order"][0] == "attn(F)");
}

TEST_CASE("a phase's plan overrides single keys of the overlap", "[config]") {
  const Scenario s =
      load_shipped("tiny-moe-h100.yaml", {"recipe.phases.0.plan.overlap.communication=false",
                                          "plan.overlap.weight_gradient_streams=1"})
          .scenario;
  REQUIRE(s.plan.overlap.communication);
  REQUIRE_FALSE(s.recipe.phases[0].plan.overlap.communication);
  REQUIRE(s.recipe.phases[0].plan.overlap.weight_gradient_streams == 1);
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
