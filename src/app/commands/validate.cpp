#include <fmt/format.h>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/table.hpp"
#include "app/validate/predictions.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

/// Seven digits, so that what differs can be seen, without trailing zeros.
std::string number(double value) { return fmt::format("{:.7g}", value); }

std::string table_text(const std::vector<ValidationRow>& rows) {
  Table table({"quantity", "unit", "predicted", "published", "error", "kind", "source"}, {1, 5, 6});
  for (const ValidationRow& row : rows) {
    table.add({row.value.quantity, row.value.unit, number(row.predicted),
               number(row.value.published), fmt::format("{:+.2f} %", 100 * row.error),
               row.value.kind, row.value.source});
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
  Predictions predictions(
      {.deepseek_v2 = load_model(directory / "models" / "deepseek-v2.yaml"),
       .deepseek_v3 =
           load_scenario(config_directory() / "scenarios" / "deepseek-v3-h800.yaml", {}).scenario,
       .dense_models = published.dense_models});
  const std::vector<ValidationRow> rows = compare(published.values, predictions);
  if (line.talks()) fmt::print("{}", table_text(rows));
  line.write_json(rows_json(rows));
  return 0;
}

const Register<Command> kEntry{
    "validate", {run_validate, "compare predictions with published and measured values"}};

}  // namespace

}  // namespace pipecast
