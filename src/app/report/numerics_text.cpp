#include <fmt/format.h>

#include <cmath>

#include "app/report/numerics_report.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

std::string shown(const NumericsMeasure& measure, double value) {
  return measure.share ? fmt::format("{:.2f} %", 100 * value) : fmt::format("{:.2e}", value);
}

/// Whole numbers without a decimal point.
nlohmann::ordered_json number_json(double value) {
  if (value == std::floor(value)) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace

std::string fixed_settings(const NumericsTable& table) {
  std::string out;
  for (const NumericsSetting& setting : table.settings) {
    if (setting.texts.size() > 1) continue;
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", setting.heading, setting.texts.front());
  }
  return out;
}

std::string numerics_text(const NumericsTable& table) {
  std::vector<std::string> header;
  for (const NumericsSetting& setting : table.settings) {
    if (setting.texts.size() > 1) header.push_back(setting.heading);
  }
  for (const NumericsMeasure& measure : table.measures) header.push_back(measure.heading);
  Table out(std::move(header));
  for (const NumericsRow& row : table.rows) {
    std::vector<std::string> cells;
    for (std::size_t i = 0; i < table.settings.size(); ++i) {
      const NumericsSetting& setting = table.settings[i];
      if (setting.texts.size() > 1) cells.push_back(setting.texts[row.settings[i]]);
    }
    for (std::size_t i = 0; i < table.measures.size(); ++i)
      cells.push_back(shown(table.measures[i], row.measures[i]));
    out.add(std::move(cells));
  }
  const std::string fixed = fixed_settings(table);
  return fmt::format("{}\n{}{}\n{}\n{}", table.title, fixed, fixed.empty() ? "" : "\n", out.text(),
                     table.notes);
}

nlohmann::ordered_json numerics_json(const NumericsTable& table) {
  using Json = nlohmann::ordered_json;
  Json rows = Json::array();
  for (const NumericsRow& row : table.rows) {
    Json one;
    for (std::size_t i = 0; i < table.settings.size(); ++i) {
      const NumericsSetting& setting = table.settings[i];
      const std::size_t value = row.settings[i];
      if (setting.numbers[value] && !setting.worded) {
        one[setting.key] = number_json(*setting.numbers[value]);
      } else {
        one[setting.key] = setting.texts[value];
      }
    }
    for (std::size_t i = 0; i < table.measures.size(); ++i)
      one[table.measures[i].key] = row.measures[i];
    rows.push_back(std::move(one));
  }
  return {{"study", table.study}, {"rows", std::move(rows)}};
}

}  // namespace pipecast
