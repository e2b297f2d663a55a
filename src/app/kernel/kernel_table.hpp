/// Predictions for the rows of a measured table, and how far they are off.
#pragma once

#include <optional>
#include <vector>

#include "app/kernel/kernel_machine.hpp"
#include "app/kernel/kernel_name.hpp"
#include "app/tables/csv.hpp"

namespace pipecast {

struct KernelTableRow {
  KernelPrediction prediction;
  std::optional<double> measured_us;  ///< where the table has a column `time_us`

  [[nodiscard]] double predicted_us() const { return to_microseconds(prediction.cost.time); }
  /// Predicted over measured, less 1; of a row with a measurement.
  [[nodiscard]] double error() const { return predicted_us() / *measured_us - 1; }
};

/// What holds for every row of a table.
struct KernelConstants {
  std::vector<std::optional<std::int64_t>> values;  ///< one per option of the operation
  std::optional<std::int64_t> sms;
};

/// The column that JSON rows have beside the table's own.
inline constexpr std::string_view kPredictedColumn = "predicted_us";

/// The table's name of a column, `-` and `_` being the same; nothing if there is none.
/// @throws Error if there are several
std::optional<std::string> column_of(const CsvTable& table, std::string_view name);

/// What one row of a table ran.
struct TableKernel {
  Operation operation;
  std::int64_t sms = 0;
  std::optional<double> measured_us{};  ///< where the table has a column `time_us`
};

/// The kernel of every row, in the order of the file. Columns are the operation's options and
/// `sms`, `-` and `_` being the same; others are ignored.
/// @param all_sms  of the GPU: what a kernel may use where neither table nor constants say
/// @throws Error with file, line and column
std::vector<TableKernel> kernels_of(const CsvTable& table, const KernelName& name,
                                    const KernelConstants& constants, std::int64_t all_sms);

/// One prediction per kernel of kernels_of(). Options that neither table nor constants give are what
/// the calibration's own tables were timed with.
/// @throws Error with file, line and column
std::vector<KernelTableRow> predict_table(const CsvTable& table, const KernelName& name,
                                          const KernelConstants& constants,
                                          const KernelMachine& machine);

/// How far predictions are off; absolute values but for the bias.
struct ErrorSummary {
  std::size_t rows = 0;
  double median = 0;
  double p90 = 0;  ///< 90th percentile, between rows linearly
  double worst = 0;
  double bias = 0;  ///< mean with sign: above 0 where predictions are too long
};

/// Nothing for no errors.
std::optional<ErrorSummary> summarise(const std::vector<double>& errors);

/// Kernels below this are mostly latency: reported apart.
inline constexpr double kLargeKernelFlop = 20e9;

struct KernelErrors {
  std::optional<ErrorSummary> all;
  std::optional<ErrorSummary> large;  ///< rows of at least kLargeKernelFlop
  std::optional<ErrorSummary> small;
};

/// Of rows with a measurement.
KernelErrors errors_of(const std::vector<KernelTableRow>& rows);

}  // namespace pipecast
