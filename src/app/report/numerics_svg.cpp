#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "app/report/logarithmic_chart.hpp"
#include "app/report/numerics_report.hpp"
#include "app/report/svg.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

std::size_t measure_index(const NumericsTable& table, const std::string& key) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < table.measures.size(); ++i) {
    if (table.measures[i].key == key) return i;
    known.push_back(table.measures[i].key);
  }
  throw Error(fmt::format("--measure: unknown '{}'; of this study are {}", key, join(known)));
}

std::size_t axis_of(const NumericsTable& table) {
  for (std::size_t i = 0; i < table.settings.size(); ++i) {
    const auto& numbers = table.settings[i].numbers;
    const bool all = std::all_of(numbers.begin(), numbers.end(),
                                 [](const std::optional<double>& one) { return one.has_value(); });
    if (all && numbers.size() > 1) return i;
  }
  throw Error(
      "--svg: no option has several values that are all numbers; give one a list, for the "
      "horizontal axis");
}

std::string name_of_line(const NumericsTable& table, const NumericsRow& row, std::size_t axis) {
  std::string out;
  for (std::size_t i = 0; i < table.settings.size(); ++i) {
    const NumericsSetting& setting = table.settings[i];
    if (i == axis || setting.texts.size() == 1) continue;
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", setting.heading,
                       setting.texts[row.settings[i]]);
  }
  return out.empty() ? "all" : out;
}

/// "total relative rms" of total_relative_rms.
std::string words_of(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

}  // namespace

std::string numerics_svg(const NumericsTable& table, const std::string& measure) {
  // Okabe and Ito's colours but yellow, which is too pale for lines; then the same dashed.
  constexpr std::array<std::string_view, 6> kColours = {kVermilion, kBlue,     kGreen,
                                                        "#E69F00",  "#CC79A7", "#56B4E9"};
  constexpr std::string_view kDashes = "7 5";
  const std::size_t which = measure_index(table, measure);
  const std::size_t axis = axis_of(table);
  std::vector<Series> lines;
  std::map<std::string, std::size_t> line_of;
  for (const NumericsRow& row : table.rows) {
    const std::string name = name_of_line(table, row, axis);
    const auto [at, added] = line_of.emplace(name, lines.size());
    if (added) {
      require(lines.size() < 2 * kColours.size(),
              "--svg: more than {} lines cannot be told apart; give shorter lists",
              2 * kColours.size());
      lines.push_back({.name = name,
                       .colour = kColours[lines.size() % kColours.size()],
                       .dashes = lines.size() < kColours.size() ? "" : kDashes,
                       .points = {}});
    }
    lines[at->second].points.emplace_back(*table.settings[axis].numbers[row.settings[axis]],
                                          row.measures[which]);
  }
  for (Series& line : lines) std::sort(line.points.begin(), line.points.end());
  return logarithmic_chart({.title = table.title,
                            .subtitle = fixed_settings(table),
                            .x_label = table.settings[axis].heading,
                            .y_label = words_of(measure),
                            .series = std::move(lines)});
}

}  // namespace pipecast
