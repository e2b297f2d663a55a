#include "app/kernel/kernel_table.hpp"

#include <cmath>

#include "base/error.hpp"
#include "base/text.hpp"
#include "model/fit/quantile.hpp"

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

/// Runs `work` on one row; what is wrong with the row begins with its place.
template <class Work>
auto at_row(const CsvTable& table, std::size_t row, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", table.place(row, table.header().front()), error.what()));
  }
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

std::vector<TableKernel> kernels_of(const CsvTable& table, const KernelName& name,
                                    const KernelConstants& constants, std::int64_t all_sms) {
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
  const KernelOption sms{"sms", "SMs that the kernel may use", all_sms};
  const Source sms_source = source_of(table, sms, constants.sms);
  const std::optional<std::string> time = column_of(table, "time_us");

  std::vector<TableKernel> kernels;
  std::vector<std::int64_t> values(sources.size());
  for (std::size_t row = 0; row < table.rows(); ++row) {
    for (std::size_t i = 0; i < sources.size(); ++i) values[i] = sources[i].at(table, row);
    TableKernel& out = kernels.emplace_back();
    out.sms = sms_source.at(table, row);
    out.operation = at_row(table, row, [&] { return make_operation(name, values); });
    if (time) out.measured_us = measured(table, row, *time);
  }
  return kernels;
}

std::vector<KernelTableRow> predict_table(const CsvTable& table, const KernelName& name,
                                          const KernelConstants& constants,
                                          const KernelMachine& machine) {
  KernelConstants filled = constants;
  const std::span<const KernelOption> options = options_of(name);
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (options[i].in_tables == nullptr || filled.values[i]) continue;
    if (!column_of(table, options[i].name))
      filled.values[i] = options[i].in_tables(machine.calibration);
  }
  std::vector<KernelTableRow> rows;
  for (const TableKernel& kernel : kernels_of(table, name, filled, machine.gpu.sm_count)) {
    KernelPrediction prediction = at_row(
        table, rows.size(), [&] { return predict_kernel(kernel.operation, machine, kernel.sms); });
    rows.push_back({prediction, kernel.measured_us});
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
  out.median = interpolated_quantile(sizes, 0.5);
  out.p90 = interpolated_quantile(sizes, 0.9);
  out.worst = interpolated_quantile(sizes, 1);
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
