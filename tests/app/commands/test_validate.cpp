#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "app/calibration/tables.hpp"
#include "app/config/load.hpp"
#include "app/tables/csv.hpp"
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
  std::size_t tables = 0;
  for (const auto& row : rows) {
    const double predicted = row.at("predicted");
    const double published = row.at("published");
    CAPTURE(row.at("quantity").get<std::string>());
    REQUIRE(predicted > 0);
    REQUIRE(row.at("error").get<double>() == Approx(predicted / published - 1));
    REQUIRE_FALSE(row.at("source").get<std::string>().empty());
    kinds.insert(row.at("kind").get<std::string>());
    if (row.contains("errors")) ++tables;
  }
  REQUIRE(kinds == std::set<std::string>{"derived", "exact", "measured"});
  REQUIRE(rows.size() - tables ==
          load_published(validation_directory() / "published.yaml").values.size());
}

TEST_CASE("`validate` shows every kernel table with the errors of its rows", "[validate]") {
  const nlohmann::json rows = run_command("validate", {}).at("rows");
  const auto rows_of = [&](const std::string& file) {
    std::size_t sum = 0;
    for (const auto& row : rows) {
      if (row.at("source") != "traces/" + file || !row.contains("errors")) continue;
      CAPTURE(row.at("quantity").get<std::string>());
      const auto& errors = row.at("errors");
      const double median = errors.at("median");
      const double p90 = errors.at("p90");
      const double worst = errors.at("worst");
      REQUIRE(median >= 0);
      REQUIRE(median <= p90);
      REQUIRE(p90 <= worst);
      // The total is no further off than the worst of its parts.
      REQUIRE(std::abs(row.at("error").get<double>()) <= worst * (1 + 1e-12));
      REQUIRE(row.at("unit") == "ms");
      sum += errors.at("rows").get<std::size_t>();
    }
    return sum;
  };
  for (const char* file :
       {"h100/gemm_fp8_block.csv", "h100/gemm_bf16.csv", "deepgemm/gemm_fp8_2025-03-25.csv",
        "deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv",
        "deepgemm/grouped_gemm_fp8_masked.csv", "h800_kernels/grouped_gemm_fp8.csv",
        "h800_kernels/mla_prefill_attention.csv"}) {
    CAPTURE(file);
    REQUIRE(rows_of(file) == CsvTable(trace_directory() / file).rows());
  }
  REQUIRE(rows_of("h100/mla_prefill_attention.csv") > 0);  // not its rows in FP8
  REQUIRE(rows_of("h800_dualpipe_chunk/kernels.csv") > 0);
}

TEST_CASE("exact counts agree to the printed digits where the definition is known", "[validate]") {
  Predictions predictions(shipped_subjects());
  REQUIRE(predictions.at("deepseek-v3.parameters.total") == Approx(671e9).margin(0.5e9));
  REQUIRE(predictions.at("deepseek-v3.kv_cache") == 70272);
  REQUIRE(predictions.at("qwen-72b.kv_cache") == 327680);
  REQUIRE(predictions.at("llama-405b.kv_cache") == 516096);
  REQUIRE(predictions.at("deepseek-v2.flop_per_token.causal") == Approx(155e9).margin(0.5e9));
}

TEST_CASE("the published fabrics are counted exactly and costed within one percent", "[validate]") {
  Predictions predictions(shipped_subjects());
  std::size_t rows = 0;
  for (const PublishedValue& value :
       load_published(validation_directory() / "published.yaml").values) {
    if (value.predict.rfind("fabric.", 0) != 0) continue;
    CAPTURE(value.quantity);
    const double predicted = predictions.at(value.predict) / unit_size(value.unit);
    if (value.kind == "exact") REQUIRE(predicted == value.published);
    REQUIRE(predicted == Approx(value.published).epsilon(0.01));
    ++rows;
  }
  REQUIRE(rows == 5 * 3 + 1);  // switches, cables and cost of five, and what Slim Fly connects
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
