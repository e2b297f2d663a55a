#include "app/report/comparison_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

#include "app/config/node.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

Json changes_json(const std::vector<NumberChange>& changes) {
  Json out = Json::array();
  for (const NumberChange& c : changes) {
    out.push_back({{"key", c.path.key},
                   {"a", c.a},
                   {"b", c.b},
                   {"difference", c.difference},
                   {"relative", c.relative ? Json(*c.relative) : Json(nullptr)},
                   {"weight", c.weight}});
  }
  return out;
}

Json keys_json(const std::vector<ResultPath>& paths) {
  Json out = Json::array();
  for (const ResultPath& path : paths) out.push_back(path.key);
  return out;
}

/// A key of a file, which may hold anything, on one line.
std::string shown(const std::string& key) { return config::printable(key, key.size()); }

/// As JSON, so that the text "20" is not taken for the number 20, and shortened.
std::string shown(const nlohmann::json& value) { return config::printable(value.dump()); }

/// Six digits; large numbers whole, with commas.
std::string number_text(double value) {
  constexpr double kSmallestGrouped = 1e5;
  constexpr double kBeyondGrouped = 1e18;
  const double size = std::abs(value);
  if (size < kSmallestGrouped || !(size < kBeyondGrouped)) return fmt::format("{:.6g}", value);
  return (value < 0 ? "-" : "") + grouped(size);
}

std::string signed_text(double value) { return (value > 0 ? "+" : "") + number_text(value); }

std::string relative_text(const NumberChange& change) {
  constexpr double kShownInHundredths = 0.005;
  if (change.difference == 0) return "identical";
  if (!change.relative) return change.a == 0 ? "new" : "huge";
  const double percent = 100 * *change.relative;
  return std::abs(percent) < kShownInHundredths ? fmt::format("{:+.1e} %", percent)
                                                : fmt::format("{:+.2f} %", percent);
}

template <class T>
struct Family {
  const T* first = nullptr;
  std::size_t members = 0;
};

const ResultPath& path_of(const ResultPath& path) { return path; }
template <class T>
const ResultPath& path_of(const T& change) {
  return change.path;
}

/// One entry for what differs on several pipeline ranks: its first, in the order of the firsts.
template <class T>
std::vector<Family<T>> families_of(const std::vector<T>& entries) {
  std::vector<Family<T>> out;
  std::map<std::string_view, std::size_t> known;
  for (const T& entry : entries) {
    const auto [it, is_new] = known.emplace(path_of(entry).family, out.size());
    if (is_new) out.push_back({&entry, 0});
    ++out[it->second].members;
  }
  return out;
}

/// "step.ranks[3].time_s and 15 like it".
template <class T>
std::string key_text(const Family<T>& family) {
  const std::string key = shown(path_of(*family.first).key);
  return family.members == 1 ? key : fmt::format("{} and {} like it", key, family.members - 1);
}

std::size_t lines_of(std::size_t entries, const ComparisonView& view) {
  return view.limit == 0 ? entries : std::min(entries, view.limit);
}

std::string left_out_text(std::size_t entries, const ComparisonView& view) {
  const std::size_t left_out = entries - lines_of(entries, view);
  return left_out == 0 ? "\n" : fmt::format("and {} more; --limit 0 shows all\n\n", left_out);
}

std::string settings_text(const std::vector<SettingChange>& settings, const ComparisonView& view) {
  if (settings.empty()) return "";
  Table table({"settings and texts that differ", "A", "B"}, {1, 2});
  const std::vector<Family<SettingChange>> families = families_of(settings);
  for (std::size_t i = 0; i < lines_of(families.size(), view); ++i) {
    const SettingChange& setting = *families[i].first;
    table.add({key_text(families[i]), shown(setting.a), shown(setting.b)});
  }
  return table.text() + left_out_text(families.size(), view);
}

std::vector<std::string> cells_of(const std::string& key, const NumberChange& change) {
  return {key, number_text(change.a.get<double>()), number_text(change.b.get<double>()),
          change.difference == 0 ? "" : signed_text(change.difference), relative_text(change)};
}

std::string headline_text(const std::vector<NumberChange>& headline) {
  if (headline.empty()) return "";
  Table table({"headline", "A", "B", "B - A", "relative"});
  for (const NumberChange& change : headline) table.add(cells_of(change.path.key, change));
  return table.text() + "\n";
}

/// Sections of a run that follow from the step and the price.
bool follows_from_step(const std::string& key) {
  return key.rfind("run.", 0) == 0 || key.rfind("forecast.", 0) == 0 ||
         key.rfind("throughput.", 0) == 0;
}

std::string differences_text(const char* title, const std::vector<NumberChange>& changes,
                             const ComparisonView& view) {
  if (changes.empty()) return "";
  const std::vector<Family<NumberChange>> families = families_of(changes);
  Table table({title, "A", "B", "B - A", "relative", "weight"});
  for (std::size_t i = 0; i < lines_of(families.size(), view); ++i) {
    const NumberChange& change = *families[i].first;
    std::vector<std::string> cells = cells_of(key_text(families[i]), change);
    cells.push_back(fmt::format("{:.2f} %", 100 * change.weight));
    table.add(std::move(cells));
  }
  return table.text() + left_out_text(families.size(), view);
}

/// Two tables, so that consequences do not crowd out what they come from.
std::string all_differences_text(const Comparison& comparison, const ComparisonView& view) {
  std::vector<NumberChange> causes;
  std::vector<NumberChange> consequences;
  for (const NumberChange& change : comparison.differences) {
    const bool small = change.relative && 100 * std::abs(*change.relative) < view.threshold_percent;
    const bool above = std::any_of(
        comparison.headline.begin(), comparison.headline.end(),
        [&](const NumberChange& headline) { return headline.path.key == change.path.key; });
    if (small || above) continue;
    (follows_from_step(change.path.key) ? consequences : causes).push_back(change);
  }
  return differences_text("differences, largest first", causes, view) +
         differences_text("what follows for the run", consequences, view);
}

std::string only_text(const char* title, const std::vector<ResultPath>& paths,
                      const ComparisonView& view) {
  if (paths.empty()) return "";
  Table table({title});
  const std::vector<Family<ResultPath>> families = families_of(paths);
  for (std::size_t i = 0; i < lines_of(families.size(), view); ++i)
    table.add({key_text(families[i])});
  return table.text() + left_out_text(families.size(), view);
}

}  // namespace

Json comparison_json(const ComparedNames& names, const Comparison& comparison) {
  Json settings = Json::array();
  for (const SettingChange& s : comparison.settings)
    settings.push_back({{"key", s.path.key}, {"a", s.a}, {"b", s.b}});
  return {{"format", "pipecast-comparison/1"},
          {"a", names.a},
          {"b", names.b},
          {"identical", comparison.identical()},
          {"settings", std::move(settings)},
          {"differences", changes_json(comparison.differences)},
          {"only_a", keys_json(comparison.only_a)},
          {"only_b", keys_json(comparison.only_b)}};
}

std::string comparison_text(const ComparedNames& names, const Comparison& comparison,
                            const ComparisonView& view) {
  std::string out = fmt::format("A: {}\nB: {}\n\n", shown(names.a), shown(names.b));
  if (comparison.identical()) {
    return out + fmt::format("identical: all {} numbers, and everything else\n",
                             grouped(static_cast<double>(comparison.numbers)));
  }
  out += settings_text(comparison.settings, view);
  out += headline_text(comparison.headline);
  out += all_differences_text(comparison, view);
  out += only_text("only in A", comparison.only_a, view);
  out += only_text("only in B", comparison.only_b, view);
  out += fmt::format("{} of {} numbers differ.",
                     grouped(static_cast<double>(comparison.differences.size())),
                     grouped(static_cast<double>(comparison.numbers)));
  if (comparison.differences.empty()) return out + "\n";
  return out +
         " Weight: B - A as a share of the largest value with the same unit in its section.\n";
}

}  // namespace pipecast
