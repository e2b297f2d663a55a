/// Fits the constants of configs/calibration/<gpu>.yaml on kernel-level measurements and prints the
/// file.
///
///   build/release/fit_roofline h800 > configs/calibration/h800.yaml
///
/// Every constant is the time-weighted median over the rows of a table: the value that makes the
/// summed absolute error of the predicted times smallest. Its range is the time-weighted quartiles,
/// its residual the median relative error of the rows with that value. No step time, GPU hours or
/// MFU is read.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "app/config/load.hpp"
#include "app/tables/csv.hpp"
#include "model/collectives/all_to_all.hpp"
#include "model/operations/layer_operations.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

constexpr double kSmallestFlops =
    20e9;  // smaller products are bound by latency, which has a constant of its own

/// What one measured row says of a constant, and how much its time counts.
struct Sample {
  double value = 0;
  double weight = 0;
};

double weighted_quantile(std::vector<Sample> samples, double share) {
  std::sort(samples.begin(), samples.end(),
            [](const Sample& a, const Sample& b) { return a.value < b.value; });
  double total = 0;
  for (const Sample& s : samples) total += s.weight;
  double sum = 0;
  for (const Sample& s : samples) {
    sum += s.weight;
    if (sum >= share * total) return s.value;
  }
  return samples.back().value;
}

struct Fit {
  Constant constant;
  std::size_t rows = 0;
  double residual = 0;
};

Fit fit(const std::vector<Sample>& samples, std::string source) {
  require(!samples.empty(), "no rows to fit on: {}", source);
  Fit out{.constant = {.value = weighted_quantile(samples, 0.5),
                       .low = weighted_quantile(samples, 0.25),
                       .high = weighted_quantile(samples, 0.75),
                       .source = std::move(source)},
          .rows = samples.size()};
  std::vector<Sample> errors;
  for (const Sample& s : samples) errors.push_back({std::abs(s.value / out.constant.value - 1), 1});
  out.residual = weighted_quantile(errors, 0.5);
  return out;
}

/// A slowdown: its range ends at 1, since running beside something makes nothing faster.
Fit fit_slowdown(const std::vector<Sample>& samples, std::string source) {
  Fit out = fit(samples, std::move(source));
  out.constant.value = std::max(1.0, out.constant.value);
  out.constant.low = std::max(1.0, out.constant.low);
  return out;
}

/// All constants 1 and no latency: times of the bare model, which efficiencies divide and
/// contention multiplies.
CalibrationSpec unit_calibration() {
  CalibrationSpec unit;
  for (Constant* c :
       {&unit.tensor.gemm_fp8, &unit.tensor.grouped_gemm_fp8, &unit.tensor.gemm_fp8_wgrad,
        &unit.tensor.gemm_bf16, &unit.attention.cache_hbm, &unit.attention.operand_hbm,
        &unit.link.hbm, &unit.link.nvlink, &unit.link.nic}) {
    c->value = 1;
  }
  return unit;
}

class RooflineFit {
 public:
  RooflineFit(const Scenario& scenario, const std::filesystem::path& traces)
      : scenario_(scenario),
        gpu_(scenario.cluster.gpu),
        traces_(traces),
        unit_(unit_calibration()) {}

  /// In dependency order: isolated kernels first, then what the trace adds to them.
  std::vector<std::pair<std::string, Fit>> run() {
    fit_products();
    fit_latencies();
    fit_links();
    fit_trace();
    return {fits_.begin(), fits_.end()};
  }

 private:
  double measured_over_unit(const Operation& op, double time_us, int sms) const {
    return time_us / to_microseconds(kernel_cost(op, gpu_, unit_, sms).time);
  }

  /// Appends the efficiency that a row shows, if the row is bound by the tensor cores.
  void add_efficiency(std::vector<Sample>& samples, const Operation& op, double time_us,
                      int sms) const {
    if (op.flops.count() < kSmallestFlops) return;
    if (kernel_cost(op, gpu_, unit_, sms).limited_by != Limit::kTensor) return;
    samples.push_back({1 / measured_over_unit(op, time_us, sms), time_us});
  }

  static Operation product(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k,
                           std::int64_t groups = 1) {
    return {.op = op,
            .m = m,
            .n = n,
            .k = k,
            .groups = groups,
            .flops = Flops(2.0 * static_cast<double>(m) * static_cast<double>(n) *
                           static_cast<double>(k))};
  }

  std::vector<Sample> product_table(const std::string& file, std::string_view op) const {
    const CsvTable table(traces_ / file);
    std::vector<Sample> samples;
    for (std::size_t i = 0; i < table.rows(); ++i) {
      const auto extent = [&](const char* column) {
        return static_cast<std::int64_t>(table.number(i, column));
      };
      const std::int64_t groups = table.has("groups") ? extent("groups") : 1;
      add_efficiency(samples, product(op, extent("m"), extent("n"), extent("k"), groups),
                     table.number(i, "time_us"), gpu_.sm_count);
    }
    return samples;
  }

  void fit_products() {
    fits_["tensor.gemm_fp8"] = fit(product_table("h100/gemm_fp8_block.csv", "gemm_fp8"),
                                   "traces/h100/gemm_fp8_block.csv, rows of at least 20 GFLOP");
    fits_["tensor.gemm_bf16"] = fit(product_table("h100/gemm_bf16.csv", "gemm_bf16"),
                                    "traces/h100/gemm_bf16.csv, rows of at least 20 GFLOP");
    fits_["tensor.grouped_gemm_fp8"] = fit(
        product_table("deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv", "grouped_gemm_fp8"),
        "traces/deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv");
  }

  /// Launch gap and shortest kernel from neighbours on the trace's compute stream.
  void fit_latencies() {
    const CsvTable trace(traces_ / "h800_dualpipe_chunk/kernels.csv");
    std::vector<Sample> gaps;
    std::vector<Sample> shortest;
    double last_end = -1;
    for (std::size_t i = 0; i < trace.rows(); ++i) {
      if (trace.text(i, "stream") != "compute") continue;
      const double start = trace.number(i, "start_us");
      const double duration = trace.number(i, "duration_us");
      constexpr double kWaiting = 20;  // us; longer gaps are waits for the other stream
      if (last_end >= 0 && start - last_end < kWaiting)
        gaps.push_back({std::max(0.0, start - last_end), 1});
      last_end = start + duration;
      if (trace.text(i, "op") == "elementwise" && trace.number(i, "grid_ctas") <= 64)
        shortest.push_back({duration, 1});
    }
    const std::string source = "traces/h800_dualpipe_chunk/kernels.csv, ";
    fits_["latency.launch_gap_us"] = fit(gaps, source + "gaps below 20 us on the compute stream");
    fits_["latency.kernel_us"] =
        fit(shortest, source + "elementwise kernels of at most 64 thread blocks");
  }

  void fit_links() {
    fit_nic();
    fit_issue_rate();
    fit_nvlink();
  }

  /// Port loads of a row of a DeepEP table, where all tokens are routed by the scenario's gate.
  PortLoad load_of(int gpus, double tokens, double hidden, bool dispatch, int groups) const {
    ModelSpec model = scenario_.model;
    model.n_group = groups;
    model.topk_group = std::min<std::int64_t>(4, groups);
    const RoutingStatistics routing =
        balanced_routing(model, gpus, scenario_.cluster.gpus_per_node);
    const Bytes copy = stored_bytes(dispatch ? Precision::kFp8 : Precision::kBf16, 1,
                                    static_cast<std::int64_t>(hidden));
    return balanced_port_load(routing, static_cast<std::int64_t>(tokens), copy, gpus,
                              scenario_.cluster.gpus_per_node);
  }

  /// DeepEP publishes logical bytes over time, its own node's (or GPU's) share included; 1 /
  /// `peers` of the copies stay there and load no link.
  std::vector<Sample> deepep_rates(const std::function<bool(int gpus)>& wanted,
                                   const std::function<int(int gpus)>& peers,
                                   Bandwidth line) const {
    const CsvTable table(traces_ / "deepep/normal.csv");
    std::vector<Sample> samples;
    for (std::size_t i = 0; i < table.rows(); ++i) {
      const int gpus = static_cast<int>(table.number(i, "ep"));
      if (table.text(i, "date") != "2025-04-22" || !wanted(gpus)) continue;
      const double remote = 1 - 1.0 / peers(gpus);
      for (const char* column : {"dispatch_gb_s", "combine_gb_s"}) {
        samples.push_back({table.number(i, column) * 1e9 * remote / line.count(), 1});
      }
    }
    return samples;
  }

  void fit_nic() {
    const int per_node = scenario_.cluster.gpus_per_node;
    fits_["link.nic"] = fit(
        deepep_rates([](int gpus) { return gpus >= 32; },  // fewer are bound by NVLink
                     [=](int gpus) { return gpus / per_node; }, scenario_.cluster.nic_per_gpu()),
        "traces/deepep/normal.csv of 2025-04-22, 32 and 64 GPUs, physical bytes");
  }

  void fit_issue_rate() {
    const CsvTable table(traces_ / "h100/deepep_normal_multinode.csv");
    std::vector<Sample> rates;
    std::vector<Sample> notify;
    for (std::size_t i = 0; i < table.rows(); ++i) {
      const int nodes = static_cast<int>(table.number(i, "nodes"));
      const double tokens = table.number(i, "tokens_per_gpu");
      if (nodes < 2 || nodes > 4 || tokens < 4096) continue;
      notify.push_back({table.number(i, "dispatch_notify_us"), 1});
      if (table.number(i, "sms") > 4) continue;  // with more SMs the links decide
      for (const bool dispatch : {true, false}) {
        const double time_us = table.number(i, dispatch ? "dispatch_us" : "combine_us");
        const PortLoad load = load_of(nodes * 8, tokens, table.number(i, "hidden"), dispatch, 1);
        const double rate =
            static_cast<double>((load.nic + load.nvlink).count()) / (time_us * 1e-6);
        rates.push_back({rate / table.number(i, "sms"), time_us});
      }
    }
    const std::string source =
        "traces/h100/deepep_normal_multinode.csv, 2 to 4 nodes, at least 4,096 tokens";
    fits_["communication.bytes_per_second_per_sm"] = fit(rates, source + ", 4 SMs");
    fits_["communication.notify_us"] = fit(notify, source);
  }

  void fit_nvlink() {
    std::vector<Sample> samples;
    const auto add = [&](double tokens, double hidden, double time_us, bool dispatch, int groups) {
      const PortLoad load =
          load_of(scenario_.cluster.gpus_per_node, tokens, hidden, dispatch, groups);
      samples.push_back({static_cast<double>(load.nvlink.count()) / (time_us * 1e-6) /
                             scenario_.cluster.nvlink.bandwidth.count(),
                         time_us});
    };
    if (gpu_.name == "h800") {
      const int per_node = scenario_.cluster.gpus_per_node;
      fits_["link.nvlink"] =
          fit(deepep_rates([=](int gpus) { return gpus == per_node; },
                           [](int gpus) { return gpus; }, scenario_.cluster.nvlink.bandwidth),
              "traces/deepep/normal.csv of 2025-04-22, 8 GPUs, physical bytes");
      return;
    }
    const CsvTable table(traces_ / "h100/deepep_normal_multinode.csv");
    for (std::size_t i = 0; i < table.rows(); ++i) {
      if (table.number(i, "nodes") != 1 || table.number(i, "tokens_per_gpu") < 4096 ||
          table.number(i, "sms") < 20)
        continue;
      for (const bool dispatch : {true, false}) {
        add(table.number(i, "tokens_per_gpu"), table.number(i, "hidden"),
            table.number(i, dispatch ? "dispatch_us" : "combine_us"), dispatch, 1);
      }
    }
    fits_["link.nvlink"] =
        fit(samples, "traces/h100/deepep_normal_multinode.csv, 1 node, at least 20 SMs");
  }

  /// Kernels that no isolated table has, and what running beside communication costs, from the H800
  /// trace.
  void fit_trace() {
    const int sms = gpu_.sm_count - scenario_.plan.communication_sms;
    for (const char* name : {"tensor.gemm_fp8", "tensor.grouped_gemm_fp8"}) {
      *constant_of(name) = fits_.at(name).constant;
    }
    std::vector<Sample> slowdown;
    std::map<std::string, std::vector<Sample>> alone;
    for (const auto& [op, time_us] : traced_operations()) {
      const double over_unit = measured_over_unit(op, time_us, sms);
      const Limit bound = kernel_cost(op, gpu_, unit_, sms).limited_by;
      if (op.op == "gemm_fp8" || op.op == "grouped_gemm_fp8") {
        if (bound == Limit::kTensor && op.flops.count() >= kSmallestFlops) {
          slowdown.push_back(
              {time_us / to_microseconds(kernel_cost(op, gpu_, fitted_, sms).time), time_us});
        }
      } else if (op.op == "gemm_fp8_wgrad" && op.label.substr(0, 6) == "routed") {
        continue;  // two at a time on two streams: the duration of one says nothing
      } else if (op.op == "gemm_fp8_wgrad") {
        alone[std::string(op.op)].push_back({1 / over_unit, time_us});
      } else if (bound == Limit::kHbm && op.op.substr(0, 3) != "ep_" &&
                 op.op.substr(0, 4) != "gate") {
        alone["hbm"].push_back({1 / over_unit, time_us});
      }
    }
    const std::string source = "traces/h800_dualpipe_chunk/kernels.csv, ";
    fits_["contention.computation"] =
        fit_slowdown(slowdown, source + "FP8 products over their time alone");
    const double contention = fits_["contention.computation"].constant.value;
    for (auto& [name, samples] : alone) {
      for (Sample& s : samples) s.value *= contention;
    }
    const std::string less = ", less the contention of computation";
    fits_["tensor.gemm_fp8_wgrad"] =
        fit(alone["gemm_fp8_wgrad"], source + "gemm_fp8_wgrad, dense layers'" + less);
    fits_["link.hbm"] = fit(alone["hbm"], source + "memory-bound kernels" + less);
    fit_transfers(source);
  }

  void fit_transfers(const std::string& source) {
    for (const char* name : {"link.nvlink", "link.nic", "communication.bytes_per_second_per_sm"}) {
      *constant_of(name) = fits_.at(name).constant;
    }
    const CsvTable trace(traces_ / "h800_dualpipe_chunk/kernels.csv");
    std::map<std::string, std::vector<Sample>> samples;
    for (std::size_t i = 0; i < trace.rows(); ++i) {
      const std::string& op = trace.text(i, "op");
      if (op != "ep_dispatch" && op != "ep_combine") continue;
      const auto tokens =
          static_cast<double>(scenario_.plan.micro_batch_size * scenario_.recipe.seq_length);
      const PortLoad load =
          load_of(scenario_.plan.ep, tokens, static_cast<double>(scenario_.model.hidden_size),
                  op == "ep_dispatch", static_cast<int>(scenario_.model.n_group));
      const double alone = to_microseconds(
          all_to_all_time(load, scenario_.cluster, fitted_, scenario_.plan.communication_sms).time);
      const double time_us = trace.number(i, "duration_us");
      samples[op].push_back({time_us / alone, time_us});
    }
    fits_["contention.dispatch"] =
        fit_slowdown(samples["ep_dispatch"], source + "ep_dispatch over its time alone");
    fits_["contention.combine"] =
        fit_slowdown(samples["ep_combine"], source + "ep_combine over its time alone");
  }

  struct Traced {
    Operation operation;
    double time_us;
  };

  /// The trace's kernels with the operations that the model has for them, matched by phase, kind
  /// and occurrence.
  std::vector<Traced> traced_operations() const {
    const LayerOperations layer = layer_operations(
        scenario_.model, scenario_.plan, LayerKind::kMoe,
        balanced_load(scenario_.model, scenario_.plan, scenario_.recipe.seq_length));
    std::map<std::pair<std::string, std::string>, std::vector<Operation>> by_kind;
    for (int p = 0; p < kPhases; ++p) {
      for (const Operation& op : layer.at(static_cast<Phase>(p))) {
        by_kind[{std::string(name_of(static_cast<Phase>(p))), std::string(op.op)}].push_back(op);
      }
    }
    const CsvTable trace(traces_ / "h800_dualpipe_chunk/kernels.csv");
    std::map<std::tuple<std::string, std::string, std::string>, std::size_t> seen;
    std::vector<Traced> out;
    for (std::size_t i = 0; i < trace.rows(); ++i) {
      const std::string& op = trace.text(i, "op");
      if (op == "elementwise" || op == "ep_dispatch" || op == "ep_combine") continue;
      const std::size_t occurrence = seen[{trace.text(i, "layer"), trace.text(i, "phase"), op}]++;
      const auto it = by_kind.find({trace.text(i, "phase"), op});
      if (it != by_kind.end() && occurrence < it->second.size()) {
        out.push_back({it->second[occurrence], trace.number(i, "duration_us")});
      }
    }
    return out;
  }

  Constant* constant_of(const std::string& name) {
    const std::map<std::string, Constant*> known = {
        {"tensor.gemm_fp8", &fitted_.tensor.gemm_fp8},
        {"tensor.grouped_gemm_fp8", &fitted_.tensor.grouped_gemm_fp8},
        {"link.nvlink", &fitted_.link.nvlink},
        {"link.nic", &fitted_.link.nic},
        {"communication.bytes_per_second_per_sm", &fitted_.communication.bytes_per_second_per_sm},
    };
    return known.at(name);
  }

  const Scenario& scenario_;
  const GpuSpec& gpu_;
  std::filesystem::path traces_;
  CalibrationSpec unit_;
  CalibrationSpec fitted_ = unit_calibration();
  std::map<std::string, Fit> fits_;
};

void print(const std::string& gpu, const std::vector<std::pair<std::string, Fit>>& fits) {
  fmt::print(
      "# yaml-language-server: $schema=../schemas/calibration.json\n"
      "# Written by `build/release/fit_roofline {}`: constants fitted on kernel-level measurements "
      "alone.\n"
      "# low and high: quartiles over the rows, weighted as the median. An H800's SMs, clocks and "
      "HBM are an "
      "H100's.\n"
      "gpu: {}\n",
      gpu, gpu);
  std::string section;
  for (const auto& [name, f] : fits) {
    const std::size_t dot = name.find('.');
    if (name.substr(0, dot) != section) fmt::print("{}:\n", section = name.substr(0, dot));
    fmt::print(
        "  {}:  # {} rows, median residual {:.1f} %\n    {{ value: {:.4g}, low: {:.4g}, high: "
        "{:.4g},\n      source: \"{}\" }}\n",
        name.substr(dot + 1), f.rows, 100 * f.residual, f.constant.value, f.constant.low,
        f.constant.high, f.constant.source);
  }
}

}  // namespace

}  // namespace pipecast

int main(int count, char** values) {
  using namespace pipecast;
  const std::string gpu = count == 2 ? values[1] : "";
  if (gpu != "h800" && gpu != "h100") {
    fmt::print(stderr, "usage: fit_roofline h800|h100\n");
    return 2;
  }
  try {
    // The reference case gives the shapes of the trace; its cluster the link rates.
    std::vector<std::string> sets;
    if (gpu == "h100")
      sets = {"cluster={extends: configs/clusters/h100-2048.yaml}", "calibration.gpu=h100"};
    const Scenario scenario =
        load_scenario("configs/scenarios/deepseek-v3-h800.yaml", sets).scenario;
    print(gpu, RooflineFit(scenario, "traces").run());
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "fit_roofline: {}\n", error.what());
    return 2;
  }
}
