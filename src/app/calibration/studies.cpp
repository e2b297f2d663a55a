#include "app/calibration/studies.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "app/calibration/tables.hpp"
#include "app/calibration/trace_rows.hpp"
#include "app/forecast/assumptions.hpp"
#include "app/tables/csv.hpp"
#include "base/error.hpp"
#include "model/collectives/all_to_all.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

namespace fs = std::filesystem;

const std::string kTraceName = std::string("traces/") + kTraceFile;

/// A fraction of a peak or of a line rate.
FreeConstant fraction(std::string name, double start) {
  return {std::move(name), {.start = start, .low = 0.01, .high = 1}};
}
/// A slowdown: running beside something makes nothing faster.
FreeConstant slowdown(std::string name) {
  return {std::move(name), {.start = 1.2, .low = 1, .high = 10}};
}
FreeConstant microseconds(std::string name, double start, double high) {
  return {std::move(name), {.start = start, .low = 0.1, .high = high}};
}

FreeConstant cycles(std::string name, double start) {
  return {std::move(name), {.start = start, .low = 1, .high = 1e5}};
}

/// Smaller products say more of the launch than of the machine.
constexpr double kLeastFlops = 1e9;

std::vector<StudyRow> kernel_rows(const std::vector<MeasuredKernel>& kernels, const GpuSpec& gpu) {
  std::vector<StudyRow> rows;
  for (const MeasuredKernel& kernel : kernels) {
    rows.push_back(kernel_row(kernel.operation, gpu, gpu.sm_count, kernel.time_us, kernel.shape));
  }
  return rows;
}

/// The row of a quantity that is a constant itself.
StudyRow constant_row(const Constant& (*constant)(const CalibrationSpec&), double measured,
                      std::string group) {
  return {.predict = [constant](const CalibrationSpec& c) { return constant(c).value; },
          .measured = measured,
          .group = std::move(group)};
}

class Studies {
 public:
  Studies(const MeasuredCase& measured, const fs::path& traces)
      : measured_(measured),
        gpu_(measured.cluster.gpu),
        traces_(traces),
        trace_(read_trace(traces / kTraceFile)),
        traced_(traced_kernels(traces, measured.model, measured.plan)) {}

  std::vector<FitStudy> all() {
    require(gpu_.name == "h800" || gpu_.name == "h100", "no tables of kernels on '{}'", gpu_.name);
    return {gpu_.name == "h100" ? products_on_h100() : products_on_h800(),
            attention_forward(),
            shortest_kernel(),
            launch_gap(),
            nic(),
            nvlink(),
            issue_rate(),
            notification(),
            computation_beside(),
            weight_gradients(),
            attention_backward(),
            memory_bound(),
            transfer_beside("dispatch"),
            transfer_beside("combine")};
  }

 private:
  /// Appends a table of products to a study, all its rows together weighing `weight`.
  void add_products(FitStudy& study, const char* file, std::string_view op, double weight) const {
    std::vector<MeasuredKernel> kernels = read_products(traces_ / file, op);
    kernels.erase(std::remove_if(kernels.begin(), kernels.end(),
                                 [](const MeasuredKernel& kernel) {
                                   return kernel.operation.flops.count() < kLeastFlops;
                                 }),
                  kernels.end());
    append_rows(study.rows, kernel_rows(kernels, gpu_), weight);
  }

  /// FP8 and BF16 products of one campaign: one clock, one HBM.
  FitStudy products_on_h100() const {
    FitStudy study{
        .name = "products",
        .source =
            "traces/h100/gemm_fp8_block.csv (timed with the cast of A) and gemm_bf16.csv, "
            "rows of at least 1 GFLOP",
        .constants = {{"clock.loaded_ghz", {.start = 1.5, .low = 1, .high = 1.9}},
                      {"clock.settling_us", {.start = 1000, .low = 10, .high = 1e5}},
                      cycles("product.drain_cycles", 160),
                      {"product.uneven_columns", {.start = 0.25, .low = 0.01, .high = 2}},
                      cycles("product.epilogue_cycles_fp8", 14),
                      cycles("product.epilogue_cycles_bf16", 12),
                      {"product.issue_bf16", {.start = 1.15, .low = 1, .high = 2}},
                      {"product.partial_row_cycles", {.start = 1.8, .low = 0.01, .high = 20}},
                      fraction("product.hbm", 0.9),
                      microseconds("product.launch_us", 3, 10),
                      {"product.one_wave_factor", {.start = 1.5, .low = 1, .high = 3}},
                      cycles("product.one_wave_cycles", 4800),
                      microseconds("product.cast_launch_us", 1.5, 10),
                      {"product.cast_blocks_per_us", {.start = 900, .low = 100, .high = 1e4}}},
        .stated = kernel_version(256, 192, "the tiles that the table's times show"),
        .loss = Loss::kCauchy};
    add_products(study, "h100/gemm_fp8_block.csv", "gemm_fp8", 1);
    add_products(study, "h100/gemm_bf16.csv", "gemm_bf16", 1);
    return study;
  }

  /// Other versions of the FP8 kernels on the same chip; what they cannot tell comes from the H100.
  FitStudy products_on_h800() const {
    FitStudy study{.name = "products",
                   .source =
                       "traces/deepgemm/*_2025-03-25.csv and grouped_gemm_fp8_masked.csv, "
                       "traces/h800_kernels/grouped_gemm_fp8.csv",
                   .constants = {{"clock.loaded_ghz", {.start = 1.6, .low = 1, .high = 1.9}},
                                 cycles("product.drain_cycles", 160),
                                 cycles("product.epilogue_cycles_fp8", 14),
                                 fraction("product.hbm", 0.85),
                                 {"product.launch_us", {.start = 2, .low = 0.5, .high = 10}}},
                   .stated = kernel_version(128, 160, "DeepGEMM, README and code of 2025-03-25")};
    const FitStudy elsewhere = products_on_h100();
    CalibrationSpec h100;
    start_study(elsewhere, h100);
    run_study(elsewhere, h100);
    for (const NamedConstant& named : constants_of(h100)) {
      for (const char* wanted :
           {"clock.settling_us", "product.uneven_columns", "product.epilogue_cycles_bf16",
            "product.issue_bf16", "product.partial_row_cycles"}) {
        if (named.name != wanted) continue;
        Constant constant = *named.constant;
        constant.source = "as on H100: " + constant.source;
        study.stated.push_back({named.name, constant});
      }
    }
    const std::string none = "not seen in this version";
    study.stated.push_back({"product.one_wave_factor", {1, 1, 1, none}});
    study.stated.push_back({"product.one_wave_cycles", {0, 0, 0, none}});
    const std::string alone = "tables time products alone";
    study.stated.push_back({"product.cast_launch_us", {0, 0, 0, alone}});
    study.stated.push_back({"product.cast_blocks_per_us", {0, 0, 0, alone}});
    add_products(study, "deepgemm/gemm_fp8_2025-03-25.csv", "gemm_fp8", 1);
    add_products(study, "deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv", "grouped_gemm_fp8",
                 1);
    add_products(study, "deepgemm/grouped_gemm_fp8_masked.csv", "grouped_gemm_fp8", 1);
    add_products(study, "h800_kernels/grouped_gemm_fp8.csv", "grouped_gemm_fp8", 1);
    return study;
  }

  static std::vector<StatedConstant> kernel_version(int tallest, int widest,
                                                    const std::string& source) {
    const auto stated = [&](int value) {
      const auto exact = static_cast<double>(value);
      return Constant{.value = exact, .low = exact, .high = exact, .source = source};
    };
    return {{"product.tallest_tile", stated(tallest)}, {"product.widest_tile", stated(widest)}};
  }

  FitStudy attention_forward() const {
    FitStudy study{.name = "attention forward",
                   .source = "traces/h800_kernels/mla_prefill_attention.csv",
                   .constants = {fraction("tensor.attention_forward", 0.6)}};
    append_rows(
        study.rows,
        kernel_rows(large(read_mla_prefill(traces_ / "h800_kernels/mla_prefill_attention.csv")),
                    gpu_),
        1);
    return study;
  }

  /// Small kernels of the trace, whose times are whole microseconds.
  FitStudy shortest_kernel() const {
    FitStudy study{
        .name = "shortest kernel",
        .source = fmt::format("{}, elementwise kernels of at most 64 thread blocks", kTraceName),
        .constants = {microseconds("latency.kernel_us", 3, 100)},
        .error = RowError::kDifference,
        .resolution = kMicrosecond};
    constexpr std::int64_t kFewBlocks = 64;  // half of the SMs have none
    for (const TraceRow& row : trace_) {
      if (row.stream != "compute" || row.op != "elementwise") continue;
      if (!row.grid_ctas || *row.grid_ctas > kFewBlocks) continue;
      study.rows.push_back(constant_row(
          [](const CalibrationSpec& c) -> const Constant& { return c.latency.kernel_us; },
          row.duration_us, row.phase));
    }
    return study;
  }

  /// Neighbours on the trace's compute stream.
  FitStudy launch_gap() const {
    FitStudy study{.name = "launch gap",
                   .source = fmt::format("{}, gaps below 20 us on the compute stream", kTraceName),
                   .constants = {microseconds("latency.launch_gap_us", 2, 20)},
                   .error = RowError::kDifference,
                   .resolution = kMicrosecond};
    constexpr double kWaiting = 20;  // us; longer gaps are waits for the other stream
    double last_end = -kWaiting;
    for (const TraceRow& row : trace_) {
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

  /// DeepEP publishes logical bytes over time, its own node's (or GPU's) share included; 1 /
  /// `peers` of the copies stay there and load no link.
  template <class Wanted, class Peers>
  std::vector<StudyRow> published_rates(Wanted wanted, Peers peers, Bandwidth line,
                                        const Constant& (*share)(const CalibrationSpec&)) const {
    const CsvTable table(traces_ / "deepep/normal.csv");
    std::vector<StudyRow> rows;
    for (std::size_t i = 0; i < table.rows(); ++i) {
      const int gpus = static_cast<int>(table.number(i, "ep"));
      if (table.text(i, "date") != "2025-04-22" || !wanted(gpus)) continue;
      const double remote = 1 - 1.0 / peers(gpus);
      for (const char* column : {"dispatch_gb_s", "combine_gb_s"}) {
        rows.push_back(constant_row(share, table.number(i, column) * 1e9 * remote / line.count(),
                                    fmt::format("{} GPUs", gpus)));
      }
    }
    return rows;
  }

  FitStudy nic() const {
    const int per_node = measured_.cluster.gpus_per_node;
    return {.name = "NIC",
            .source = "traces/deepep/normal.csv of 2025-04-22, 32 and 64 GPUs, physical bytes",
            .constants = {fraction("link.nic", 0.8)},
            .rows = published_rates([](int gpus) { return gpus >= 32; },  // fewer: NVLink bound
                                    [=](int gpus) { return gpus / per_node; },
                                    measured_.cluster.nic_per_gpu(), nic_share)};
  }

  FitStudy nvlink() const {
    const int per_node = measured_.cluster.gpus_per_node;
    FitStudy study{.name = "NVLink", .constants = {fraction("link.nvlink", 0.7)}};
    if (gpu_.name == "h800") {
      study.source = "traces/deepep/normal.csv of 2025-04-22, 8 GPUs, physical bytes";
      study.rows =
          published_rates([=](int gpus) { return gpus == per_node; }, [](int gpus) { return gpus; },
                          measured_.cluster.nvlink.bandwidth, nvlink_share);
      return study;
    }
    study.source = "traces/h100/deepep_normal_multinode.csv, 1 node, at least 20 SMs";
    constexpr double kManySms = 20;  // fewer decide the rate themselves
    for (const Transfer& t : transfers()) {
      if (t.nodes != 1 || t.sms < kManySms) continue;
      const double rate = static_cast<double>(t.load.nvlink.count()) / (t.time_us * 1e-6);
      study.rows.push_back(
          constant_row(nvlink_share, rate / measured_.cluster.nvlink.bandwidth.count(), t.group));
    }
    return study;
  }

  FitStudy issue_rate() const {
    FitStudy study{
        .name = "bytes per SM",
        .source =
            "traces/h100/deepep_normal_multinode.csv, 2 to 4 nodes, at least 4,096 tokens, 4 SMs",
        .constants = {
            {"communication.bytes_per_second_per_sm", {.start = 1e10, .low = 1e8, .high = 1e12}}}};
    constexpr double kFewSms = 4;  // with more SMs the links decide
    for (const Transfer& t : transfers()) {
      if (t.nodes < 2 || t.sms > kFewSms) continue;
      const double rate =
          static_cast<double>((t.load.nic + t.load.nvlink).count()) / (t.time_us * 1e-6) / t.sms;
      study.rows.push_back(constant_row(
          [](const CalibrationSpec& c) -> const Constant& {
            return c.communication.bytes_per_second_per_sm;
          },
          rate, t.group));
    }
    return study;
  }

  FitStudy notification() const {
    FitStudy study{
        .name = "notification",
        .source = "traces/h100/deepep_normal_multinode.csv, 2 to 4 nodes, at least 4,096 tokens",
        .constants = {microseconds("communication.notify_us", 60, 1000)}};
    for (const Transfer& t : transfers()) {
      if (t.nodes < 2 || !t.dispatch) continue;
      study.rows.push_back(constant_row(
          [](const CalibrationSpec& c) -> const Constant& { return c.communication.notify_us; },
          t.notify_us, t.group));
    }
    return study;
  }

  /// Times of a kernel of the trace: alone on the SMs that communication leaves, times what running
  /// beside communication costs, as src/sim/gpu has it.
  StudyRow trace_row(const Operation& operation, const TraceRow& row) const {
    StudyRow out =
        kernel_row(operation, gpu_, gpu_.sm_count - measured_.plan.communication_sms,
                   row.duration_us, fmt::format("{} {} {}", row.phase, row.op, operation.label));
    out.predict = [alone = std::move(out.predict)](const CalibrationSpec& calibration) {
      return alone(calibration) * calibration.contention.computation.value;
    };
    out.weight = row.duration_us;  // a long kernel matters more, and its time is known better
    return out;
  }

  template <class Wanted>
  std::vector<StudyRow> trace_rows(Wanted wanted) const {
    std::vector<StudyRow> rows;
    for (const TracedKernel& kernel : traced_) {
      if (wanted(kernel)) rows.push_back(trace_row(kernel.operation, kernel.row));
    }
    return rows;
  }

  std::vector<StudyRow> trace_rows(TraceFamily family) const {
    return trace_rows([family](const TracedKernel& kernel) { return kernel.family == family; });
  }

  FitStudy computation_beside() const {
    return {.name = "computation beside communication",
            .source = fmt::format("{}, FP8 products over their time alone", kTraceName),
            .constants = {slowdown("contention.computation")},
            .rows = trace_rows([](const TracedKernel& kernel) {
              return kernel.family == TraceFamily::kProducts &&
                     kernel.operation.flops.count() >= kLargeKernelFlop;
            })};
  }

  FitStudy weight_gradients() const {
    return {.name = "FP8 weight gradients",
            .source = fmt::format("{}, gemm_fp8_wgrad, dense layers', less the contention of "
                                  "computation",
                                  kTraceName),
            .constants = {cycles("product.gradient_drain_cycles", 400)},
            .rows = trace_rows(TraceFamily::kWeightGradients)};
  }

  FitStudy attention_backward() const {
    return {
        .name = "attention backward",
        .source = fmt::format("{}, attention_bwd, less the contention of computation", kTraceName),
        .constants = {fraction("tensor.attention_backward", 0.6)},
        .rows = trace_rows(
            [](const TracedKernel& kernel) { return kernel.operation.op == "attention_bwd"; })};
  }

  FitStudy memory_bound() const {
    return {.name = "memory-bound kernels",
            .source = fmt::format("{}, memory-bound kernels, less the contention of computation",
                                  kTraceName),
            .constants = {fraction("link.hbm", 0.7)},
            .rows = trace_rows(TraceFamily::kMemoryBound)};
  }

  FitStudy transfer_beside(const std::string& what) const {
    const std::string op = "ep_" + what;
    FitStudy study{.name = what + " beside computation",
                   .source = fmt::format("{}, {} over its time alone", kTraceName, op),
                   .constants = {slowdown("contention." + what)}};
    const bool dispatch = what == "dispatch";
    const PortLoad load =
        load_of(measured_.plan.ep, measured_.plan.micro_batch_size * kTraceSequence,
                measured_.model.hidden_size, dispatch, measured_.model.n_group);
    for (const TraceRow& row : trace_) {
      if (row.op != op) continue;
      study.rows.push_back(
          {.predict =
               [load, dispatch, this_case = &measured_](const CalibrationSpec& calibration) {
                 const ContentionConstants& beside = calibration.contention;
                 const TransferCost alone = all_to_all_time(load, this_case->cluster, calibration,
                                                            this_case->plan.communication_sms);
                 return to_microseconds(alone.time) *
                        (dispatch ? beside.dispatch : beside.combine).value;
               },
           .measured = row.duration_us,
           .weight = row.duration_us,
           .group = fmt::format("layer {} {}", row.layer, row.phase)});
    }
    return study;
  }

  /// Port loads of a row of a DeepEP table, where all tokens are routed by the model's gate.
  PortLoad load_of(int gpus, std::int64_t tokens, std::int64_t hidden, bool dispatch,
                   std::int64_t groups) const {
    ModelSpec model = measured_.model;
    model.n_group = groups;
    model.topk_group = std::min<std::int64_t>(4, groups);  // as published: top 4 groups
    const int per_node = measured_.cluster.gpus_per_node;
    const Bytes copy = stored_bytes(dispatch ? Precision::kFp8 : Precision::kBf16, 1, hidden);
    return balanced_port_load(balanced_routing(model, gpus, per_node), tokens, copy, gpus, per_node,
                              dispatch ? Exchange::kDispatch : Exchange::kCombine);
  }

  /// A dispatch or combine of a training-sized micro-batch on H100.
  struct Transfer {
    int nodes = 0;
    double sms = 0;
    bool dispatch = false;
    double time_us = 0;
    double notify_us = 0;
    PortLoad load;
    std::string group;
  };

  std::vector<Transfer> transfers() const {
    constexpr std::int64_t kGpusPerNode = 8;
    constexpr int kMostNodes = 4;  // the eight-node rows look congested (traces/h100/README.md)
    constexpr std::int64_t kManyTokens = 4096;  // fewer are bound by latency
    const CsvTable table(traces_ / "h100/deepep_normal_multinode.csv");
    std::vector<Transfer> out;
    for (std::size_t i = 0; i < table.rows(); ++i) {
      const int nodes = static_cast<int>(table.number(i, "nodes"));
      const auto tokens = static_cast<std::int64_t>(table.number(i, "tokens_per_gpu"));
      if (nodes > kMostNodes || tokens < kManyTokens) continue;
      const auto hidden = static_cast<std::int64_t>(table.number(i, "hidden"));
      for (const bool dispatch : {true, false}) {
        out.push_back(
            {.nodes = nodes,
             .sms = table.number(i, "sms"),
             .dispatch = dispatch,
             .time_us = table.number(i, dispatch ? "dispatch_us" : "combine_us"),
             .notify_us = table.number(i, "dispatch_notify_us"),
             .load = load_of(static_cast<int>(nodes * kGpusPerNode), tokens, hidden, dispatch, 1),
             .group = fmt::format("{} nodes {} tokens", nodes, tokens)});
      }
    }
    return out;
  }

  static const Constant& nic_share(const CalibrationSpec& c) { return c.link.nic; }
  static const Constant& nvlink_share(const CalibrationSpec& c) { return c.link.nvlink; }

  static constexpr double kMicrosecond = 1;  // resolution of the trace

  const MeasuredCase& measured_;
  const GpuSpec& gpu_;
  fs::path traces_;
  std::vector<TraceRow> trace_;
  std::vector<TracedKernel> traced_;
};

}  // namespace

std::vector<FitStudy> studies_of(const MeasuredCase& measured,
                                 const std::filesystem::path& traces) {
  return Studies(measured, traces).all();
}

FittedCalibration fit_calibration(const std::string& gpu, const std::vector<FitStudy>& studies) {
  FittedCalibration out;
  out.calibration.gpu = gpu;
  std::set<std::string> fitted;
  for (const FitStudy& study : studies) {
    for (const FreeConstant& free : study.constants) {
      require(fitted.insert(free.name).second, "study '{}': '{}' is fitted already", study.name,
              free.name);
    }
    for (const StatedConstant& stated : study.stated) {
      require(fitted.insert(stated.name).second, "study '{}': '{}' is fitted already", study.name,
              stated.name);
    }
    start_study(study, out.calibration);
  }
  for (const NamedConstant& named : constants_of(out.calibration)) {
    require(fitted.count(named.name) > 0, "no study fits '{}'", named.name);
  }
  for (const FitStudy& study : studies) search_study(study, out.calibration);
  for (const FitStudy& study : studies) out.studies.push_back(run_study(study, out.calibration));
  return out;
}

}  // namespace pipecast
