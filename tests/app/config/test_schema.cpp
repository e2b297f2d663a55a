#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/config/files.hpp"
#include "app/config/load.hpp"
#include "app/config/text.hpp"
#include "json_schema.hpp"

using namespace pipecast;

namespace {

using config::Kind;
using config::Node;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// The file as an editor's validator sees it: `extends` not followed, plain scalars typed by the
/// rules of YAML's core schema.
nlohmann::json to_json(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return nullptr;
    case Kind::kText:
      return node.text;
    case Kind::kPlain:
      return nlohmann::json::accept(node.text) ? nlohmann::json::parse(node.text)
                                               : nlohmann::json(node.text);
    case Kind::kList: {
      nlohmann::json out = nlohmann::json::array();
      for (const Node& child : node.children) out.push_back(to_json(child));
      return out;
    }
    case Kind::kMap: {
      nlohmann::json out = nlohmann::json::object();
      for (std::size_t i = 0; i < node.keys.size(); ++i)
        out[node.keys[i].name] = to_json(node.children[i]);
      return out;
    }
  }
  return nullptr;
}

nlohmann::json parsed(const std::string& text) {
  return to_json(config::parse_yaml(text, std::make_shared<const std::string>("file")));
}

/// Complaints of the schema about a document; empty: valid.
std::string complaints(const std::string& kind, const nlohmann::json& document) {
  return testing::complaints(nlohmann::json::parse(schema(kind).dump()), document);
}

struct Folder {
  const char* name;
  const char* kind;
};

}  // namespace

TEST_CASE("the committed schemas are those that the declarations give", "[config][schema]") {
  // Run with PIPECAST_REGENERATE=1 to write them anew.
  const bool regenerate = std::getenv("PIPECAST_REGENERATE") != nullptr;
  for (const std::string& kind : schema_kinds()) {
    CAPTURE(kind);
    const std::string path =
        std::string(PIPECAST_SOURCE_DIR) + "/configs/schemas/" + kind + ".json";
    const std::string expected = schema(kind).dump(2) + "\n";
    if (regenerate) std::ofstream(path) << expected;
    REQUIRE(text_of(path) == expected);
  }
}

TEST_CASE("every shipped file names its schema and is valid by it, partial files too",
          "[config][schema]") {
  const auto folder =
      GENERATE(Folder{"gpus", "gpu"}, Folder{"clusters", "cluster"}, Folder{"models", "model"},
               Folder{"plans", "plan"}, Folder{"recipes", "recipe"},
               Folder{"calibration", "calibration"}, Folder{"scenarios", "scenario"});
  const auto directory = std::filesystem::path(PIPECAST_SOURCE_DIR) / "configs" / folder.name;
  const auto schema_file =
      directory.parent_path() / "schemas" / (folder.kind + std::string(".json"));
  for (const std::string& name : shipped_names(folder.name)) {
    const auto path = directory / (name + ".yaml");
    CAPTURE(path);
    const std::string text = text_of(path);
    const auto relative = schema_file.lexically_relative(path.parent_path());
    REQUIRE_THAT(text,
                 Catch::StartsWith("# yaml-language-server: $schema=" + relative.string() + "\n"));
    REQUIRE(complaints(folder.kind, parsed(text)).empty());
  }
}

TEST_CASE("a section may lack keys where a file completes it or a section around it",
          "[config][schema]") {
  nlohmann::json whole = parsed(text_of(config_directory() / "scenarios" / "tiny-moe-h100.yaml"));
  REQUIRE(complaints("scenario", whole).empty());
  whole["plan"] = {{"communication_sms", 0}};
  REQUIRE_FALSE(complaints("scenario", whole).empty());
  whole["plan"]["extends"] = "plan.yaml";
  REQUIRE(complaints("scenario", whole).empty());
  const nlohmann::json part = {{"cluster", {{"gpu", {{"hbm_bandwidth", "1 TB/s"}}}}}};
  REQUIRE_FALSE(complaints("scenario", part).empty());
  nlohmann::json extended = part;
  extended["extends"] = "scenario.yaml";
  REQUIRE(complaints("scenario", extended).empty());
  extended["cluster"]["gpu"]["hbm_width"] = 1;  // but unknown keys are wrong anywhere
  REQUIRE_FALSE(complaints("scenario", extended).empty());
}

TEST_CASE("the schema of a launch order wants every phase once", "[config][schema]") {
  const auto with_order = [](const nlohmann::json& order) -> nlohmann::json {
    return {{"extends", "plan.yaml"}, {"overlap", {{"order", order}}}};
  };
  nlohmann::json order = nlohmann::json::array();
  for (int i = 0; i < kPhases; ++i) order.push_back(name_of(static_cast<Phase>(i)));
  REQUIRE(complaints("plan", with_order(order)).empty());
  REQUIRE_FALSE(complaints("plan", with_order("default")).empty());
  nlohmann::json twice = order;
  twice[0] = twice[1];
  REQUIRE_FALSE(complaints("plan", with_order(twice)).empty());
  order.erase(0);
  REQUIRE_FALSE(complaints("plan", with_order(order)).empty());
}

TEST_CASE("a complete printed configuration is valid by the scenario's schema",
          "[config][schema]") {
  const auto path = config_directory() / "scenarios" / "deepseek-v3-h800.yaml";
  const auto loaded = load_scenario(path, {});
  REQUIRE(complaints("scenario", nlohmann::json::parse(config_json(loaded).dump())).empty());
  REQUIRE(complaints("scenario", parsed(print_config(loaded))).empty());
}

TEST_CASE("the schemas refuse what reading refuses", "[config][schema]") {
  const std::string text = text_of(config_directory() / "gpus" / "h800.yaml");
  REQUIRE(complaints("gpu", parsed(text)).empty());
  REQUIRE_FALSE(complaints("gpu", parsed(text + "sm_cuont: 132\n")).empty());
  nlohmann::json gpu = parsed(text);
  gpu["hbm_bandwidth"] = "3350";
  REQUIRE_FALSE(complaints("gpu", gpu).empty());
  gpu["hbm_bandwidth"] = "3350 GiB";
  REQUIRE_FALSE(complaints("gpu", gpu).empty());
  gpu["hbm_bandwidth"] = "3.35TB/s";
  REQUIRE(complaints("gpu", gpu).empty());
  gpu.erase("sm_count");
  REQUIRE_FALSE(complaints("gpu", gpu).empty());
  gpu["extends"] = "h800.yaml";
  REQUIRE(complaints("gpu", gpu).empty());
}

TEST_CASE("an unknown kind of schema lists the kinds", "[config][schema]") {
  REQUIRE_THROWS_WITH(schema("clutser"),
                      "unknown kind of schema 'clutser'; known: calibration, cluster, gpu, model, "
                      "plan, recipe, scenario");
}
