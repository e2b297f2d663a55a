/// What a numerical study finds: a row for every combination of its settings' values.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pipecast {

/// One value of a setting, as its user wrote it.
template <class T>
struct ListedValue {
  std::string text;
  T value{};
  std::optional<double> number{};  ///< its place on the axis of a chart, where it has one
};

struct NumericsSetting {
  std::string key;  ///< of JSON, and the option's name with underscores
  std::string heading;
  std::vector<std::string> texts;
  std::vector<std::optional<double>> numbers;
  bool worded = false;  ///< JSON has the texts

  template <class T>
  NumericsSetting(std::string its_key, std::string its_heading,
                  const std::vector<ListedValue<T>>& values, bool is_worded = false)
      : key(std::move(its_key)), heading(std::move(its_heading)), worded(is_worded) {
    for (const ListedValue<T>& one : values) {
      texts.push_back(one.text);
      numbers.push_back(one.number);
    }
  }
};

struct NumericsMeasure {
  std::string key;
  std::string heading;
  bool share = false;  ///< shown in per cent
};

struct NumericsRow {
  std::vector<std::size_t> settings;  ///< which value of each
  std::vector<double> measures;
};

struct NumericsTable {
  std::string study;
  std::string title;
  std::vector<NumericsSetting> settings;
  std::vector<NumericsMeasure> measures;
  std::vector<NumericsRow> rows;
  std::string notes;  ///< what the measures are; lines
};

/// Told the fraction that is done, from any thread.
using NumericsProgress = std::function<void(std::string_view stage, double fraction)>;

/// Every combination, the last setting varying fastest.
/// @throws Error if there are more than 10,000
std::vector<std::vector<std::size_t>> combinations(const std::vector<NumericsSetting>& settings);

/// Calls `work(i)` for 0 .. count - 1 on so many threads, and tells how far it is.
void in_parallel(std::size_t count, int threads, const NumericsProgress& progress,
                 std::string_view stage, const std::function<void(std::size_t)>& work);

}  // namespace pipecast
