#include "app/calibration/study_parts.hpp"

#include <fmt/format.h>

#include "app/forecast/assumptions.hpp"
#include "base/error.hpp"
#include "model/ops/training.hpp"

namespace pipecast {

FreeConstant fraction(std::string name, double start) {
  return {std::move(name), {.start = start, .low = 0.01, .high = 1}};
}
FreeConstant microseconds(std::string name, double start, double high) {
  return {std::move(name), {.start = start, .low = 0.1, .high = high}};
}
FreeConstant cycles(std::string name, double start) {
  return {std::move(name), {.start = start, .low = 1, .high = 1e5}};
}

std::vector<StatedConstant> as_on_h100(CalibrationSpec& h100,
                                       std::initializer_list<const char*> names) {
  std::vector<StatedConstant> out;
  for (const NamedConstant& named : constants_of(h100)) {
    for (const char* wanted : names) {
      if (named.name != wanted) continue;
      Constant constant = *named.constant;
      constant.source = "as on H100: " + constant.source;
      out.push_back({named.name, std::move(constant)});
    }
  }
  PIPECAST_ASSERT(out.size() == names.size());
  return out;
}

std::vector<StudyRow> kernel_rows(const std::vector<MeasuredKernel>& kernels, const GpuSpec& gpu) {
  std::vector<StudyRow> rows;
  for (const MeasuredKernel& kernel : kernels) {
    rows.push_back(kernel_row(kernel.operation, gpu, gpu.sm_count, kernel.time_us, kernel.shape));
  }
  return rows;
}

StudyRow constant_row(const Constant& (*constant)(const CalibrationSpec&), double measured,
                      std::string group) {
  return {.predict = [constant](const CalibrationSpec& c) { return constant(c).value; },
          .measured = measured,
          .group = std::move(group)};
}

StudyRow trace_row(const StudyInput& input, const Operation& operation, const TraceRow& row) {
  const GpuSpec& gpu = input.gpu();
  const int sms = gpu.sm_count - input.measured.plan.communication_sms;
  return {.predict =
              [operation, &gpu, sms](const CalibrationSpec& calibration) {
                return to_microseconds(in_training(gpu, calibration).cost(operation, sms).time);
              },
          .measured = row.duration_us,
          .weight = row.duration_us,  // a long kernel matters more, and its time is known better
          .group = fmt::format("{} {} {}", row.phase, row.op, operation.label),
          .operation = operation.op};
}

}  // namespace pipecast
