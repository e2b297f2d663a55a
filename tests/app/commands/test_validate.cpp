#include <catch2/catch.hpp>
#include <set>

#include "app/config/load.hpp"
#include "app/validate/predictions.hpp"
#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

Subjects shipped_subjects() {
  const auto directory = validation_directory();
  return {
      .deepseek_v2 = load_model(directory / "models" / "deepseek-v2.yaml"),
      .deepseek_v3 =
          load_scenario(config_directory() / "scenarios" / "deepseek-v3-h800.yaml", {}).scenario,
      .dense_models = load_published(directory / "published.yaml").dense_models};
}

}  // namespace

TEST_CASE("`validate` compares every published value with a prediction", "[commands][validate]") {
  const nlohmann::json rows = run_command("validate", {}).at("rows");
  std::set<std::string> kinds;
  for (const auto& row : rows) {
    const double predicted = row.at("predicted");
    const double published = row.at("published");
    CAPTURE(row.at("quantity").get<std::string>());
    REQUIRE(predicted > 0);
    REQUIRE(row.at("error").get<double>() == Approx(predicted / published - 1));
    REQUIRE_FALSE(row.at("source").get<std::string>().empty());
    kinds.insert(row.at("kind").get<std::string>());
  }
  REQUIRE(kinds == std::set<std::string>{"derived", "exact", "measured"});
  REQUIRE(rows.size() == load_published(validation_directory() / "published.yaml").values.size());
}

TEST_CASE("exact counts agree to the printed digits where the definition is known", "[validate]") {
  Predictions predictions(shipped_subjects());
  REQUIRE(predictions.at("deepseek-v3.parameters.total") == Approx(671e9).margin(0.5e9));
  REQUIRE(predictions.at("deepseek-v3.kv_cache") == 70272);
  REQUIRE(predictions.at("qwen-72b.kv_cache") == 327680);
  REQUIRE(predictions.at("llama-405b.kv_cache") == 516096);
  REQUIRE(predictions.at("deepseek-v2.flop_per_token.causal") == Approx(155e9).margin(0.5e9));
}

TEST_CASE("a 1F1B schedule has the bubble of the formula", "[validate]") {
  Predictions predictions(shipped_subjects());
  REQUIRE(predictions.at("schedule.1f1b.bubble") == (16 - 1) * (10 + 30));
  REQUIRE(predictions.at("schedule.1f1b.live") == 16);
  REQUIRE(predictions.at("schedule.dualpipe.live") == 17);
}

TEST_CASE("unknown predictions, units and keys are refused", "[validate]") {
  Predictions predictions(shipped_subjects());
  REQUIRE_THROWS_WITH(predictions.at("run.gpu_hour"),
                      "unknown prediction 'run.gpu_hour'; did you mean 'run.gpu_hours'?");
  REQUIRE_THROWS_WITH(predictions.at("?"), Catch::Contains("unknown prediction '?'; known: "));
  REQUIRE_THROWS_WITH(unit_size("furlong"), Catch::Contains("unknown unit 'furlong'; known: %, B"));
  const TemporaryFile file("published");
  std::ofstream(file.path()) << "dense_models: []\nvalues:\n  - { quantities: 3 }\n";
  REQUIRE_THROWS_WITH(load_published(file.path()), Catch::Contains(":3:7: values.0.quantities"));
}
