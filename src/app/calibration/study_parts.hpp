/// What the studies of studies_*.cpp are made of. Internal to app/calibration.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

#include "app/calibration/studies.hpp"
#include "app/calibration/tables.hpp"
#include "app/calibration/trace_rows.hpp"

namespace pipecast {

/// What studies read their rows from.
struct StudyInput {
  const MeasuredCase& measured;  ///< outlives the studies and their rows
  std::filesystem::path traces;
  std::vector<TraceRow> trace;
  std::vector<TracedKernel> traced;

  [[nodiscard]] const GpuSpec& gpu() const { return measured.cluster.gpu; }
};

// Products, studies_products.cpp.
std::vector<FreeConstant> product_constants();
FitStudy products_on_h100(const StudyInput& input);
FitStudy products_on_h800(const StudyInput& input, CalibrationSpec& h100);
FitStudy weight_gradients(const StudyInput& input);
FitStudy training_clock(const StudyInput& input);
// Attention, studies_attention.cpp.
std::vector<FreeConstant> attention_constants();
FitStudy attention_on_h100(const StudyInput& input);
FitStudy attention_forward_on_h800(const StudyInput& input, CalibrationSpec& h100);
FitStudy attention_decode_on_h800(const StudyInput& input);
FitStudy attention_in_training(const StudyInput& input, const std::string& op);
// Kernels that move memory, studies_memory.cpp.
std::vector<FreeConstant> memory_constants();
FitStudy memory_bound(const StudyInput& input);
FitStudy launch_gap(const StudyInput& input);
// Links and exchange, studies_exchange.cpp.
std::vector<FreeConstant> exchange_constants();
FitStudy nic(const StudyInput& input);
FitStudy nvlink(const StudyInput& input);
FitStudy exchange_kernels(const StudyInput& input);
FitStudy notification(const StudyInput& input);
FitStudy late_peers(const StudyInput& input);
/// Rows of the trace that decide a constant of contention.
struct TransferRows {
  std::string name{};  ///< of the constant
  Constant ContentionConstants::*constant = nullptr;
  std::string op{};
  std::string phase{};  ///< empty: every one
};
FitStudy transfer_beside(const StudyInput& input, const TransferRows& transfer);

/// "traces/..." of the recorded chunk, for sources.
inline const std::string kTraceName = std::string("traces/") + kTraceFile;

inline constexpr double kTraceResolution = 1;  // us

/// A fraction of a peak or of a line rate.
FreeConstant fraction(std::string name, double start);
FreeConstant microseconds(std::string name, double start, double high);
FreeConstant cycles(std::string name, double start);

/// Fitted values of another GPU, under their names, for a study to take as given.
std::vector<StatedConstant> as_on_h100(CalibrationSpec& h100,
                                       std::initializer_list<const char*> names);

/// Every kernel alone on the whole GPU.
std::vector<StudyRow> kernel_rows(const std::vector<MeasuredKernel>& kernels, const GpuSpec& gpu);

/// The row of a quantity that is a constant itself.
StudyRow constant_row(const Constant& (*constant)(const CalibrationSpec&), double measured,
                      std::string group);

/// A launch of the trace: a kernel of a training step on the SMs that communication leaves, as
/// src/sim/gpu has it.
StudyRow trace_row(const StudyInput& input, const Operation& operation, const TraceRow& row);

/// Those that `wanted(const TracedKernel&)` chooses.
template <class Wanted>
std::vector<StudyRow> trace_rows(const StudyInput& input, Wanted wanted) {
  std::vector<StudyRow> rows;
  for (const TracedKernel& kernel : input.traced) {
    if (wanted(kernel)) rows.push_back(trace_row(input, kernel.operation, kernel.row));
  }
  return rows;
}

}  // namespace pipecast
