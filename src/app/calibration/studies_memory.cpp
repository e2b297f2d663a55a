/// Studies of kernels that move memory: no table has them, the trace of a training chunk does.
#include <fmt/format.h>

#include <algorithm>

#include "app/calibration/study_parts.hpp"
#include "base/error.hpp"
#include "model/ops/exchange.hpp"

namespace pipecast {

namespace {

/// Shares of a launch's time with kernels of the exchange beside it.
struct Beside {
  double transfers = 0;  ///< ep_dispatch or ep_combine
  double staged = 0;     ///< bytes per second that they move through HBM meanwhile
  double notify = 0;     ///< ep_notify
  double cached = 0;     ///< ep_cached_notify
};

/// Less of a launch's time counts as alone.
constexpr double kHardly = 0.02;

using Operations = std::vector<std::optional<Operation>>;

Beside beside(const TraceRow& row, const std::vector<TraceRow>& trace,
              const Operations& operations) {
  Beside out;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const TraceRow& other = trace[i];
    const double start = std::max(row.start_us, other.start_us);
    const double end = std::min(row.start_us + row.duration_us, other.start_us + other.duration_us);
    if (end <= start) continue;
    const double share = (end - start) / row.duration_us;
    if (other.op == "ep_dispatch" || other.op == "ep_combine") {
      out.transfers += share;
      const auto bytes = static_cast<double>(staged_bytes(operations[i]->exchange).count());
      out.staged += share * bytes / (other.duration_us * 1e-6);
    }
    if (other.op == "ep_notify") out.notify += share;
    if (other.op == "ep_cached_notify") out.cached += share;
  }
  return out;
}

/// Kernels that the constants of memory time. Elementwise kernels last about what the trace
/// resolves, but for one.
bool moves_memory(const Operation& operation) {
  const std::string_view op = operation.op;
  if (is_product(operation) || op == "attention_fwd" || op == "attention_bwd") return false;
  if (op == "memset" || op == "memcpy" || op == "fill_tensormaps") return false;
  if (op == "elementwise") return operation.label == "rope_key_to_heads";
  return op.substr(0, 3) != "ep_" || op == "ep_layout";
}

/// One thread block decides their time, whatever else runs.
bool is_one_block(std::string_view op) {
  return op == "expert_count" || op == "permute_map" || op == "ep_layout";
}

/// Kernels that move memory with a transfer beside them from beginning to end, or with none; the
/// exchange's casts, which are the only ones on few SMs; what other kernels hardly slow.
bool tells_of_memory(const TraceRow& row, const Operation& operation, const Beside& beside) {
  if (!moves_memory(operation)) return false;
  if (is_one_block(row.op)) return true;
  if (row.stream == "comm") return row.op == "cast_fp8_1x128";
  const bool either = beside.transfers < kHardly || beside.transfers > 1 - kHardly;
  return row.stream == "compute" && either;
}

/// SMs that a launch had.
int free_sms(const TraceRow& row, const Beside& beside, const StudyInput& input) {
  const int all = input.gpu().sm_count;
  const int communication = input.measured.plan.communication_sms;
  constexpr int kNotifyBlocks = 9;  // grid of ep_notify
  // These casts run beside products, which hold the other SMs; the chunk begins with one alone.
  if (row.stream == "comm" && row.op == "cast_fp8_1x128" && row.layer > 0) return communication;
  if (beside.notify > kHardly) return all - kNotifyBlocks;
  return beside.transfers + beside.cached > kHardly ? all - communication : all;
}

/// The row of a kernel that has the HBM to itself but for what transfers stage there.
StudyRow shared_row(const Operation& operation, const GpuSpec& gpu, int sms, double staged,
                    double time_us, std::string group) {
  StudyRow alone = kernel_row(operation, gpu, sms, time_us, std::move(group));
  if (staged <= 0) return alone;
  const double taken = staged / gpu.hbm_bandwidth.count();
  alone.predict = [predict = std::move(alone.predict), taken](const CalibrationSpec& calibration) {
    constexpr double kLeast = 0.01;  // of the line rate
    CalibrationSpec left = calibration;
    left.link.hbm.value = std::max(kLeast, calibration.link.hbm.value - taken);
    return predict(left);
  };
  return alone;
}

FreeConstant of_family(const std::string& name, double start, double low, double high,
                       const std::string& family) {
  return {"memory." + name,
          {.start = start, .low = low, .high = high},
          fmt::format("{}, extents as run; {}: the family's one constant", kTraceName, family)};
}

}  // namespace

std::vector<FreeConstant> memory_constants() {
  const std::string shared =
      fmt::format("{}, extents as run; shared by all kernels that move memory", kTraceName);
  return {
      {"latency.kernel_us", {.start = 2, .low = 0.1, .high = 20}, shared},
      {"link.hbm", {.start = 0.8, .low = 0.1, .high = 0.95}, shared},
      of_family("conversion_bytes_per_cycle", 10, 1, 64, "casts of rows to and from FP8"),
      of_family("tile_cycles", 8000, 100, 1e5, "casts with transposition"),
      of_family("dispatch_bytes_per_cycle", 8, 1, 64, "casts of what a dispatch sends"),
      of_family("packing_cycles", 0.4, 0.01, 10, "to E5M6"),
      of_family("unpacking_cycles", 0.4, 0.01, 10, "from E5M6"),
      of_family("norm_cycles", 0.3, 0.01, 10, "RMSNorm, forward and backward"),
      of_family("norm_alone", 0.4, 0.01, 1, "RMSNorm on some of the SMs"),
      of_family("rotation_cycles", 0.5, 0.01, 10, "rotary embedding"),
      of_family("repetition_cycles", 0.5, 0.01, 10, "copy of the rotary key to all heads"),
      of_family("selection_cycles", 200, 1, 1e4, "top-k and sums of groups"),
      of_family("scan_cycles", 0.5, 0.01, 10, "expert_count and permute_map"),
      of_family("scale_cycles", 2, 0.01, 100, "transposition of scales"),
      {"communication.layout_cycles",
       {.start = 5, .low = 0.1, .high = 100},
       kTraceName + ", ep_layout: the family's one constant"},
  };
}

FitStudy memory_bound(const StudyInput& input) {
  FitStudy study{
      .name = "kernels that move memory",
      .source = kTraceName,
      .constants = memory_constants(),
      .stated = {{"memory.sm_bytes_per_cycle",
                  {32, 20, 64,
                   "not fitted: 2,048 threads with 16 bytes each in flight for 560 ns; at least 20 "
                   "as the trace's residual additions move, at most 64, an SM's port to L2",
                   Evidence::kModelled}}}};
  const Operations operations =
      operations_as_run(input.trace, input.measured.model, input.measured.plan);
  for (std::size_t i = 0; i < input.trace.size(); ++i) {
    const TraceRow& row = input.trace[i];
    if (!operations[i] || row.duration_us <= 0) continue;
    const Operation& operation = *operations[i];
    const Beside neighbours = beside(row, input.trace, operations);
    if (!tells_of_memory(row, operation, neighbours)) continue;
    StudyRow added =
        shared_row(operation, input.gpu(), free_sms(row, neighbours, input), neighbours.staged,
                   row.duration_us, fmt::format("{} {} {}", row.phase, row.op, operation.label));
    // Squared errors count less where they reach the trace's rounding.
    constexpr double kModel = 0.05;  // what the model itself is off by
    const double rounding = kTraceResolution / 2 / row.duration_us;
    added.weight = kModel * kModel / (kModel * kModel + rounding * rounding);
    study.rows.push_back(std::move(added));
  }
  return study;
}

/// Neighbours on the trace's compute stream.
FitStudy launch_gap(const StudyInput& input) {
  FitStudy study{.name = "launch gap",
                 .source = fmt::format("{}, gaps below 20 us on the compute stream", kTraceName),
                 .constants = {microseconds("latency.launch_gap_us", 2, 20)},
                 .error = RowError::kDifference,
                 .resolution = kTraceResolution};
  constexpr double kWaiting = 20;  // us; longer gaps are waits for the other stream
  double last_end = -kWaiting;
  for (const TraceRow& row : input.trace) {
    if (row.stream != "compute") continue;
    const double gap = row.start_us - last_end;
    last_end = row.start_us + row.duration_us;
    if (gap >= kWaiting) continue;
    study.rows.push_back(constant_row(
        [](const CalibrationSpec& c) -> const Constant& { return c.latency.launch_gap_us; },
        std::max(0.0, gap), row.phase));
  }
  return study;
}

}  // namespace pipecast
