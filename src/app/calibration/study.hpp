/// A fit of constants on measured rows, declared as data: what is fitted, on what, within which
/// bounds. Knows nothing of files.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/kernel/kernel_table.hpp"
#include "model/fit/robust_least_squares.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/calibration.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

/// A constant that a study may move.
struct FreeConstant {
  std::string name{};  ///< as constants_of() names it: "product.hbm"
  FitParameter parameter{};
  std::string source{};  ///< of the rows that decide it, for people; empty: the study's
};

/// A constant that is not fitted here: read in a source, or fitted on another GPU.
struct StatedConstant {
  std::string name{};
  Constant constant{};
};

/// One measurement and what the model says of it.
struct StudyRow {
  std::function<double(const CalibrationSpec&)> predict{};  ///< in the unit of `measured`
  double measured = 0;
  double weight = 1;
  std::string group{};  ///< rows of one shape: left out together
  /// The kind of kernel whose time it is, as operation_kind() returns it; empty: another quantity.
  std::string_view operation{};
};

/// What a row's error is.
enum class RowError : std::uint8_t {
  kRelative,    ///< logarithm of predicted over measured
  kDifference,  ///< predicted less measured: for measurements that may be 0
};

struct FitStudy {
  std::string name{};
  std::string source{};                   ///< of the rows, for people
  Evidence evidence = Evidence::kPublic;  ///< that the rows are
  std::vector<FreeConstant> constants{};
  std::vector<StatedConstant> stated{};  ///< what the study takes as given
  std::vector<StudyRow> rows{};
  RowError error = RowError::kRelative;
  double resolution = 0.005;  ///< of a measurement, as an error: smaller ones count as none
  Loss loss = Loss::kHuber;
  std::size_t folds = 5;
  /// The search looks at that many rows, drawn once; errors are of all rows.
  std::size_t most_rows = 2000;
  std::vector<KernelEvidence> stated_kernels{};  ///< timed elsewhere, behind what is stated
};

/// Kinds of kernels that the rows of studies time, sorted by name: how often, and in which studies.
/// What is stated counts only for kinds that no study times.
std::vector<KernelEvidence> evidence_of(const std::vector<FitStudy>& studies);

struct StudyResult {
  std::string name{};
  std::string source{};
  std::vector<std::string> constants{};  ///< names, in the study's order
  std::size_t rows = 0;
  std::size_t groups = 0;
  ErrorSummary fitted{};
  std::optional<ErrorSummary> left_out{};  ///< each shape by a fit without it; none with one shape
  int iterations = 0;
  bool converged = false;
};

/// Sets the study's constants to their starts, the stated ones for good.
/// @throws Error for an unknown constant
void start_study(const FitStudy& study, CalibrationSpec& calibration);

/// Moves the study's constants from where they are to where they fit best, the others held.
/// @throws Error for an unknown constant or rows that cannot be fitted
void search_study(const FitStudy& study, CalibrationSpec& calibration);

/// The same, with value, range and source of each constant, and with cross-validation.
///
/// The range is the wider of two, inside the bounds:
/// - value and two standard errors to each side. The standard error is the larger of the fit's own,
///   from J^T W J, and the jackknife's over the folds, which knows that rows of a shape err alike;
/// - the quartiles over shapes of the value that each shape alone asks for, the other constants
///   held (one Gauss-Newton step), a shape counting as much as it depends on the constant: how far
///   one number for all shapes is wrong for one of them.
/// @throws Error for an unknown constant or rows that cannot be fitted
StudyResult run_study(const FitStudy& study, CalibrationSpec& calibration);

/// The row of a kernel alone, in microseconds.
/// @param gpu  must outlive the row
StudyRow kernel_row(const Operation& operation, const GpuSpec& gpu, int sms, double time_us,
                    std::string group);

/// Appends rows that together weigh `weight`, so that long tables do not drown short ones.
void append_rows(std::vector<StudyRow>& to, std::vector<StudyRow> rows, double weight);

}  // namespace pipecast
