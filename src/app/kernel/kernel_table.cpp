#include "app/kernel/kernel_table.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

/// Where one option comes from: a column, or the same value for all rows.
struct Source {
  KernelOption option;
  std::optional<std::string> column;
  std::int64_t constant = 0;

  [[nodiscard]] std::int64_t at(const CsvTable& table, std::size_t row) const {
    if (!column) return constant;
    try {
      return parse_option(option, table.text(row, *column));
    } catch (const Error& error) {
      throw Error(fmt::format("{}: {}", table.place(row, *column), error.what()));
    }
  }
};

Source source_of(const CsvTable& table, const KernelOption& option,
                 const std::optional<std::int64_t>& constant) {
  Source out{option, column_of(table, option.name), 0};
  const std::string flag = hyphened(option.name);
  require(!constant || !out.column, "{}: --{} is a column of the table too",
          table.place_of_header(), flag);
  if (out.column) return out;
  require(constant || option.fallback, "{}: no column {}, and no --{} for all rows; columns: {}",
          table.place_of_header(), option.name, flag, join(table.header()));
  out.constant = constant ? *constant : *option.fallback;
  return out;
}

double measured(const CsvTable& table, std::size_t row, const std::string& column) {
  const double value = table.number(row, column);
  require(std::isfinite(value) && value > 0, "{}: {}: {} is no time; expected more than 0",
          table.place(row, column), column, value);
  return value;
}

/// The value that a share of all does not exceed; between two values linearly. `sorted` has some.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = place - static_cast<double>(below);
  return sorted[below] * (1 - weight) + sorted[above] * weight;
}

}  // namespace

std::optional<std::string> column_of(const CsvTable& table, std::string_view name) {
  std::optional<std::string> found;
  for (const std::string& column : table.header()) {
    if (hyphened(column) != hyphened(name)) continue;
    require(!found, "{}: the column {} stands there twice", table.place_of_header(), column);
    found = column;
  }
  return found;
}

std::vector<KernelTableRow> predict_table(const CsvTable& table, const KernelName& name,
                                          const KernelConstants& constants,
                                          const KernelMachine& machine) {
  require(table.rows() > 0, "{}: has no rows", table.name());
  for (const std::string& column : table.header()) {
    require(column != kPredictedColumn, "{}: a column {} is what predictions are put into",
            table.place_of_header(), column);
    column_of(table, column);
  }
  const std::span<const KernelOption> options = options_of(name);
  std::vector<Source> sources;
  for (std::size_t i = 0; i < options.size(); ++i) {
    sources.push_back(source_of(table, options[i], constants.values[i]));
  }
  const KernelOption sms{"sms", "SMs that the kernel may use", machine.gpu.sm_count};
  const Source sms_source = source_of(table, sms, constants.sms);
  const std::optional<std::string> time = column_of(table, "time_us");

  std::vector<KernelTableRow> rows;
  std::vector<std::int64_t> values(sources.size());
  for (std::size_t row = 0; row < table.rows(); ++row) {
    for (std::size_t i = 0; i < sources.size(); ++i) values[i] = sources[i].at(table, row);
    const std::int64_t row_sms = sms_source.at(table, row);
    KernelTableRow& out = rows.emplace_back();
    try {
      out.prediction = predict_kernel(make_operation(name, values), machine, row_sms);
    } catch (const Error& error) {
      throw Error(fmt::format("{}: {}", table.place(row, table.header().front()), error.what()));
    }
    if (time) out.measured_us = measured(table, row, *time);
  }
  return rows;
}

std::optional<ErrorSummary> summarise(const std::vector<double>& errors) {
  if (errors.empty()) return std::nullopt;
  ErrorSummary out;
  out.rows = errors.size();
  std::vector<double> sizes;
  for (const double error : errors) {
    sizes.push_back(std::abs(error));
    out.bias += error / static_cast<double>(errors.size());
  }
  std::sort(sizes.begin(), sizes.end());
  out.median = quantile(sizes, 0.5);
  out.p90 = quantile(sizes, 0.9);
  out.worst = sizes.back();
  return out;
}

KernelErrors errors_of(const std::vector<KernelTableRow>& rows) {
  std::vector<double> all;
  std::vector<double> large;
  std::vector<double> small;
  for (const KernelTableRow& row : rows) {
    if (!row.measured_us) continue;
    all.push_back(row.error());
    const bool is_large = row.prediction.cost.flops.count() >= kLargeKernelFlop;
    (is_large ? large : small).push_back(all.back());
  }
  return {summarise(all), summarise(large), summarise(small)};
}

}  // namespace pipecast
