/// Studies of links and of the kernels that exchange tokens through them.
#include <fmt/format.h>

#include "app/calibration/study_parts.hpp"
#include "app/tables/csv.hpp"
#include "model/collectives/all_to_all.hpp"
#include "model/operations/exchange_shapes.hpp"
#include "model/ops/exchange.hpp"

namespace pipecast {

namespace {

const Constant& nic_share(const CalibrationSpec& c) { return c.link.nic; }
const Constant& nvlink_share(const CalibrationSpec& c) { return c.link.nvlink; }

constexpr int kMostNodes = 4;  // the eight-node rows look congested (traces/h100/README.md)

/// Port loads of a row of a DeepEP table, where all tokens are routed by the model's gate.
PortLoad load_of(const StudyInput& input, int gpus, std::int64_t tokens, std::int64_t hidden,
                 bool dispatch, std::int64_t groups) {
  ModelSpec model = input.measured.model;
  model.n_group = groups;
  model.topk_group = std::min<std::int64_t>(4, groups);  // as published: top 4 groups
  const int per_node = input.measured.cluster.gpus_per_node;
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

std::vector<Transfer> transfers(const StudyInput& input) {
  constexpr std::int64_t kGpusPerNode = 8;
  constexpr std::int64_t kManyTokens = 4096;  // fewer are bound by latency
  const CsvTable table(input.traces / "h100/deepep_normal_multinode.csv");
  std::vector<Transfer> out;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const int nodes = static_cast<int>(table.number(i, "nodes"));
    const auto tokens = static_cast<std::int64_t>(table.number(i, "tokens_per_gpu"));
    if (nodes > kMostNodes || tokens < kManyTokens) continue;
    const auto hidden = static_cast<std::int64_t>(table.number(i, "hidden"));
    for (const bool dispatch : {true, false}) {
      out.push_back({.nodes = nodes,
                     .sms = table.number(i, "sms"),
                     .dispatch = dispatch,
                     .time_us = table.number(i, dispatch ? "dispatch_us" : "combine_us"),
                     .notify_us = table.number(i, "dispatch_notify_us"),
                     .load = load_of(input, static_cast<int>(nodes * kGpusPerNode), tokens, hidden,
                                     dispatch, 1),
                     .group = fmt::format("{} nodes {} tokens", nodes, tokens)});
    }
  }
  return out;
}

/// DeepEP publishes logical bytes over time, its own node's (or GPU's) share included; 1 /
/// `peers` of the copies stay there and load no link.
template <class Wanted, class Peers>
std::vector<StudyRow> published_rates(const StudyInput& input, Wanted wanted, Peers peers,
                                      Bandwidth line,
                                      const Constant& (*share)(const CalibrationSpec&)) {
  const CsvTable table(input.traces / "deepep/normal.csv");
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

/// Appends a DeepEP table's rows of few SMs: the links wait for those.
void add_few_sms(FitStudy& study, const StudyInput& input, const char* file, int most_nodes,
                 double most_sms) {
  const CsvTable table(input.traces / file);
  const ClusterSpec& cluster = input.measured.cluster;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto extent = [&](const char* column) {
      return static_cast<std::int64_t>(table.number(i, column));
    };
    const ExchangeGroup group{.tokens = extent("tokens_per_gpu"),
                              .hidden = extent("hidden"),
                              .top_k = extent("top_k"),
                              .experts = extent("experts"),
                              .nodes = extent("nodes"),
                              .gpus_per_node = cluster.gpus_per_node};
    const auto sms = static_cast<int>(extent("sms"));
    if (group.nodes > most_nodes || sms > most_sms) continue;
    const Duration hops =
        cluster.nvlink.latency + (group.nodes > 1 ? cluster.nic.latency : Duration());
    for (const Exchange kind : {Exchange::kDispatch, Exchange::kCombine}) {
      const bool dispatch = kind == Exchange::kDispatch;
      const ExchangeShape shape =
          even_exchange(kind, group, dispatch ? Precision::kFp8 : Precision::kBf16);
      study.rows.push_back(
          {.predict =
               [shape, hops, sms](const CalibrationSpec& calibration) {
                 const ExchangeWork work = exchange_work(shape, calibration.communication, sms);
                 return to_microseconds(hops + work.start + work.moving);
               },
           .measured = table.number(i, dispatch ? "dispatch_us" : "combine_us"),
           .group = fmt::format("{} nodes, {} of {} experts, {} columns", group.nodes, group.top_k,
                                group.experts, group.hidden)});
    }
  }
}

}  // namespace

FitStudy nic(const StudyInput& input) {
  const int per_node = input.measured.cluster.gpus_per_node;
  return {.name = "NIC",
          .source = "traces/deepep/normal.csv of 2025-04-22, 32 and 64 GPUs, physical bytes",
          .constants = {fraction("link.nic", 0.8)},
          .rows = published_rates(
              input, [](int gpus) { return gpus >= 32; },  // fewer: NVLink bound
              [=](int gpus) { return gpus / per_node; }, input.measured.cluster.nic_per_gpu(),
              nic_share)};
}

FitStudy nvlink(const StudyInput& input) {
  const int per_node = input.measured.cluster.gpus_per_node;
  FitStudy study{.name = "NVLink", .constants = {fraction("link.nvlink", 0.7)}};
  if (input.gpu().name == "h800") {
    study.source = "traces/deepep/normal.csv of 2025-04-22, 8 GPUs, physical bytes";
    study.rows = published_rates(
        input, [=](int gpus) { return gpus == per_node; }, [](int gpus) { return gpus; },
        input.measured.cluster.nvlink.bandwidth, nvlink_share);
    return study;
  }
  study.source = "traces/h100/deepep_normal_multinode.csv, 1 node, at least 20 SMs";
  constexpr double kManySms = 20;  // fewer decide the rate themselves
  for (const Transfer& t : transfers(input)) {
    if (t.nodes != 1 || t.sms < kManySms) continue;
    const double rate = static_cast<double>(t.load.nvlink.count()) / (t.time_us * 1e-6);
    study.rows.push_back(constant_row(
        nvlink_share, rate / input.measured.cluster.nvlink.bandwidth.count(), t.group));
  }
  return study;
}

/// What the SMs do for an exchange, links apart.
FitStudy exchange_kernels(const StudyInput& input) {
  FitStudy study{
      .name = "exchange kernels",
      .source =
          "traces/h100/deepep_normal_1node.csv with at most 12 SMs and "
          "deepep_normal_multinode.csv, 1 to 4 nodes, with 4",
      .constants = {
          microseconds("communication.dispatch_us", 25, 1000),
          microseconds("communication.combine_us", 35, 1000),
          {"communication.token_us", {.start = 0.3, .low = 0.001, .high = 10}},
          {"communication.copy_us", {.start = 0.05, .low = 0.001, .high = 10}},
          {"communication.bytes_per_second_per_sm", {.start = 30e9, .low = 1e9, .high = 1e12}},
          {"communication.sum_copy", {.start = 2, .low = 0.01, .high = 100}},
          {"communication.node_copy", {.start = 2, .low = 0.01, .high = 100}},
      }};
  add_few_sms(study, input, "h100/deepep_normal_1node.csv", 1, 12);
  add_few_sms(study, input, "h100/deepep_normal_multinode.csv", kMostNodes, 4);
  return study;
}

FitStudy notification(const StudyInput& input) {
  FitStudy study{
      .name = "notification",
      .source = "traces/h100/deepep_normal_multinode.csv, 2 to 4 nodes, at least 4,096 tokens",
      .constants = {microseconds("communication.notify_us", 60, 1000)}};
  for (const Transfer& t : transfers(input)) {
    if (t.nodes < 2 || !t.dispatch) continue;
    study.rows.push_back(constant_row(
        [](const CalibrationSpec& c) -> const Constant& { return c.communication.notify_us; },
        t.notify_us, t.group));
  }
  return study;
}

/// What a GPU that is ready waits for the last of 64 in the trace, where routing is balanced.
FitStudy late_peers(const StudyInput& input) {
  FitStudy study{.name = "late peers",
                 .source = fmt::format("{}, ep_notify and ep_cached_notify less the exchange of "
                                       "counts",
                                       kTraceName),
                 .constants = {microseconds("communication.peers_late_us", 2000, 1e5)}};
  for (const TraceRow& row : input.trace) {
    if (row.op != "ep_notify" && row.op != "ep_cached_notify") continue;
    study.rows.push_back({.predict =
                              [](const CalibrationSpec& c) {
                                return c.communication.notify_us.value +
                                       c.communication.peers_late_us.value;
                              },
                          .measured = row.duration_us,
                          .group = fmt::format("layer {} {}", row.layer, row.phase)});
  }
  return study;
}

FitStudy transfer_beside(const StudyInput& input, const TransferRows& transfer) {
  const bool dispatch = transfer.op == "ep_dispatch";
  FitStudy study{
      .name = transfer.name + " beside computation",
      .source =
          fmt::format("{}, {}{}{}: time of the SMs that move it over their time alone", kTraceName,
                      transfer.op, transfer.phase.empty() ? "" : " of ", transfer.phase),
      .constants = {{"contention." + transfer.name, {.start = 3, .low = 1, .high = 20}}}};
  const PortLoad load =
      load_of(input, input.measured.plan.ep, input.measured.plan.micro_batch_size * kTraceSequence,
              input.measured.model.hidden_size, dispatch, input.measured.model.n_group);
  for (const TraceRow& row : input.trace) {
    if (row.op != transfer.op || (!transfer.phase.empty() && row.phase != transfer.phase)) continue;
    study.rows.push_back({.predict =
                              [load, constant = transfer.constant,
                               &measured = input.measured](const CalibrationSpec& calibration) {
                                return to_microseconds(
                                    all_to_all_time(load, measured.cluster, calibration,
                                                    measured.plan.communication_sms,
                                                    (calibration.contention.*constant).value)
                                        .time);
                              },
                          .measured = row.duration_us,
                          .weight = row.duration_us,
                          .group = fmt::format("layer {} {}", row.layer, row.phase)});
  }
  return study;
}

}  // namespace pipecast
