#include <fmt/format.h>

#include "app/calibration/tables.hpp"
#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/table.hpp"
#include "app/validate/exchange_rows.hpp"
#include "app/validate/kernel_rows.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

/// Seven digits, so that what differs can be seen, without trailing zeros.
std::string number(double value) { return fmt::format("{:.7g}", value); }

std::string table_text(const std::vector<ValidationRow>& rows) {
  Table table({"quantity", "unit", "predicted", "published", "error", "kind", "source"}, {1, 5, 6});
  for (const ValidationRow& row : rows) {
    if (row.kernels) continue;
    table.add({row.value.quantity, row.value.unit, number(row.predicted),
               number(row.value.published), fmt::format("{:+.2f} %", 100 * row.error),
               row.value.kind, row.value.source});
  }
  return table.text();
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string kernels_text(const std::vector<ValidationRow>& rows) {
  Table table({"kernels, each against its measured time", "rows", "median", "p90", "worst", "total",
               "source"},
              {6});
  for (const ValidationRow& row : rows) {
    if (!row.kernels) continue;
    const ErrorSummary& errors = *row.kernels;
    table.add({row.value.quantity, std::to_string(errors.rows), percent(errors.median),
               percent(errors.p90), percent(errors.worst),
               fmt::format("{:+.1f} %", 100 * row.error), row.value.source});
  }
  return table.text();
}

nlohmann::ordered_json rows_json(const std::vector<ValidationRow>& rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ValidationRow& row : rows) {
    list.push_back({{"quantity", row.value.quantity},
                    {"unit", row.value.unit},
                    {"predicted", row.predicted},
                    {"published", row.value.published},
                    {"error", row.error},
                    {"kind", row.value.kind},
                    {"source", row.value.source}});
    if (row.kernels) {
      const ErrorSummary& errors = *row.kernels;
      list.back()["errors"] = {{"rows", errors.rows},
                               {"median", errors.median},
                               {"p90", errors.p90},
                               {"worst", errors.worst}};
    }
  }
  return {{"rows", std::move(list)}};
}

int run_validate(const std::vector<std::string>& arguments) {
  CommandLine line("validate [options]",
                   "Compares predictions with published and measured values. A report without a "
                   "pass mark: errors are shown, not judged.");
  line.options().add_options()  //
      ("published", po::value<std::string>()->value_name("FILE"),
       "compare with the values of another file of this form");
  if (!line.parse(arguments)) return 0;
  const auto directory = validation_directory();
  const PublishedValues published = load_published(
      line.has("published") ? line.text("published") : (directory / "published.yaml").string());
  const auto configs = config_directory();
  const Scenario h800 = load_scenario(configs / "scenarios" / "deepseek-v3-h800.yaml", {}).scenario;
  Predictions predictions({.deepseek_v2 = load_model(directory / "models" / "deepseek-v2.yaml"),
                           .deepseek_v3 = h800,
                           .dense_models = published.dense_models});
  std::vector<ValidationRow> rows = compare(published.values, predictions);
  const CalibratedGpu h100{.gpu = load_gpu(configs / "gpus" / "h100.yaml"),
                           .calibration = load_calibration(configs / "calibration" / "h100.yaml")};
  for (ValidationRow& row : kernel_rows(h800, h100, trace_directory())) {
    rows.push_back(std::move(row));
  }
  const CalibratedCluster h100_cluster{
      .cluster = load_cluster(configs / "clusters" / "h100-64.yaml"),
      .calibration = h100.calibration};
  for (ValidationRow& row : exchange_rows(h800, h100_cluster, trace_directory())) {
    rows.push_back(std::move(row));
  }
  if (line.talks()) fmt::print("{}\n{}", table_text(rows), kernels_text(rows));
  line.write_json(rows_json(rows));
  return 0;
}

const Register<Command> kEntry{
    "validate", {run_validate, "compare predictions with published and measured values"}};

}  // namespace

}  // namespace pipecast
