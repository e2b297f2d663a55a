/// Studies of links and of the kernels that exchange tokens through them.
#include <fmt/format.h>

#include "app/calibration/exchange_tables.hpp"
#include "app/calibration/study_parts.hpp"
#include "model/collectives/all_to_all.hpp"
#include "model/operations/exchange_shapes.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/ops/exchange.hpp"

namespace pipecast {

namespace {

/// An exchange with its links, as the cluster has them.
StudyRow linked_row(const MeasuredExchange& exchange, const ClusterSpec& cluster) {
  return {.predict =
              [exchange, &cluster](const CalibrationSpec& calibration) {
                return to_microseconds(
                    all_to_all_time(exchange.load, cluster, calibration, exchange.sms).time);
              },
          .measured = exchange.time_us,
          .group = exchange.shape,
          .operation = exchange.dispatch() ? "ep_dispatch" : "ep_combine"};
}

/// Those of a table that `wanted(const MeasuredExchange&)` chooses.
template <class Wanted>
void add_linked(FitStudy& study, const std::vector<MeasuredExchange>& exchanges,
                const ClusterSpec& cluster, Wanted wanted) {
  for (const MeasuredExchange& exchange : exchanges) {
    if (wanted(exchange)) study.rows.push_back(linked_row(exchange, cluster));
  }
}

std::vector<MeasuredExchange> published(const StudyInput& input) {
  return published_exchanges(input.traces, input.measured.model,
                             input.measured.cluster.gpus_per_node);
}

std::vector<MeasuredExchange> timed(const StudyInput& input, const char* file) {
  return timed_exchanges(input.traces, file, input.measured.cluster.gpus_per_node);
}

bool many_tokens(const MeasuredExchange& exchange) {
  constexpr double kMany = 4096;  // fewer are bound by latency
  return exchange.load.exchange.tokens >= kMany;
}

bool many_sms(const MeasuredExchange& exchange) {
  constexpr int kMany = 20;  // fewer decide the rate themselves
  return exchange.sms >= kMany;
}

/// Appends a DeepEP table's rows of few SMs: the links wait for those.
void add_few_sms(FitStudy& study, const StudyInput& input, const char* file, int most_sms) {
  const ClusterSpec& cluster = input.measured.cluster;
  for (const MeasuredExchange& exchange : timed(input, file)) {
    if (exchange.nodes > kUncongestedNodes || exchange.sms > most_sms) continue;
    const Duration hops =
        cluster.nvlink.latency + (exchange.nodes > 1 ? cluster.nic.latency : Duration());
    study.rows.push_back(
        {.predict =
             [shape = exchange.load.exchange, hops, sms = exchange.sms](const CalibrationSpec& c) {
               const ExchangeWork work = exchange_work(shape, c.communication, sms);
               return to_microseconds(hops + work.start + work.filling + work.moving);
             },
         .measured = exchange.time_us,
         .group = exchange.shape,
         .operation = exchange.dispatch() ? "ep_dispatch" : "ep_combine"});
  }
}

}  // namespace

FitStudy nic(const StudyInput& input) {
  FitStudy study{.name = "NIC", .constants = {fraction("link.nic", 0.8)}};
  const ClusterSpec& cluster = input.measured.cluster;
  constexpr int kLeastNodes = 4;  // fewer are NVLink bound
  if (input.gpu().name == "h800") {
    study.source = "traces/deepep/normal.csv of 2025-04-22, 32 and 64 GPUs, physical bytes";
    add_linked(study, published(input), cluster,
               [](const MeasuredExchange& exchange) { return exchange.nodes >= kLeastNodes; });
    return study;
  }
  study.source =
      "traces/h100/deepep_normal_multinode.csv, 4 nodes, at least 20 SMs and 4,096 tokens";
  add_linked(study, timed(input, kExchangesAcrossNodes), cluster,
             [](const MeasuredExchange& exchange) {
               return exchange.nodes == kLeastNodes && many_sms(exchange) && many_tokens(exchange);
             });
  return study;
}

FitStudy nvlink(const StudyInput& input) {
  FitStudy study{.name = "NVLink", .constants = {fraction("link.nvlink", 0.7)}};
  const ClusterSpec& cluster = input.measured.cluster;
  if (input.gpu().name == "h800") {
    study.source = "traces/deepep/normal.csv of 2025-04-22, 8 and 16 GPUs, physical bytes";
    add_linked(study, published(input), cluster,
               [](const MeasuredExchange& exchange) { return exchange.nodes <= 2; });
    return study;
  }
  study.source = "traces/h100/deepep_normal_*.csv, 1 node, at least 20 SMs and 4,096 tokens";
  for (const char* file : {kExchangesInNode, kExchangesAcrossNodes}) {
    add_linked(study, timed(input, file), cluster, [](const MeasuredExchange& exchange) {
      return exchange.nodes == 1 && many_sms(exchange) && many_tokens(exchange);
    });
  }
  return study;
}

std::vector<FreeConstant> exchange_constants() {
  return {
      microseconds("communication.dispatch_us", 25, 1000),
      microseconds("communication.combine_us", 35, 1000),
      {"communication.token_us", {.start = 0.3, .low = 0.001, .high = 10}},
      {"communication.copy_us", {.start = 0.05, .low = 0.001, .high = 10}},
      {"communication.bytes_per_second_per_sm", {.start = 30e9, .low = 1e9, .high = 1e12}},
      {"communication.sum_copy", {.start = 2, .low = 0.01, .high = 100}},
      {"communication.node_copy", {.start = 2, .low = 0.01, .high = 100}},
      {"communication.first_tokens", {.start = 2, .low = 0.01, .high = 100}},
      {"communication.chunk_tokens", {.start = 6, .low = 0.1, .high = 100}},
  };
}

/// What the SMs do for an exchange, links apart.
FitStudy exchange_kernels(const StudyInput& input) {
  FitStudy study{.name = "exchange kernels",
                 .source =
                     "traces/h100/deepep_normal_1node.csv with at most 12 SMs and "
                     "deepep_normal_multinode.csv, 1 to 4 nodes, with 4",
                 .constants = exchange_constants()};
  add_few_sms(study, input, kExchangesInNode, 12);
  add_few_sms(study, input, kExchangesAcrossNodes, 4);
  return study;
}

FitStudy notification(const StudyInput& input) {
  FitStudy study{
      .name = "notification",
      .source = "traces/h100/deepep_normal_multinode.csv, 2 to 4 nodes, at least 4,096 tokens",
      .constants = {microseconds("communication.notify_us", 60, 1000)}};
  for (const MeasuredExchange& exchange : timed(input, kExchangesAcrossNodes)) {
    if (exchange.nodes < 2 || exchange.nodes > kUncongestedNodes || !exchange.dispatch() ||
        !many_tokens(exchange)) {
      continue;
    }
    study.rows.push_back(constant_row(
        [](const CalibrationSpec& c) -> const Constant& { return c.communication.notify_us; },
        exchange.notify_us,
        fmt::format("{} nodes {} tokens", exchange.nodes, exchange.load.exchange.tokens)));
    study.rows.back().operation = "ep_notify";
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
                          .group = fmt::format("layer {} {}", row.layer, row.phase),
                          .operation = operation_kind(row.op)});
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
  const PlanSpec& plan = input.measured.plan;
  const ModelSpec& model = input.measured.model;
  const int per_node = input.measured.cluster.gpus_per_node;
  const PortLoad load = balanced_port_load(
      balanced_routing(model, plan.ep, per_node), plan.micro_batch_size * kTraceSequence,
      stored_bytes(dispatch ? Precision::kFp8 : Precision::kBf16, 1, model.hidden_size), plan.ep,
      per_node, dispatch ? Exchange::kDispatch : Exchange::kCombine);
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
                          .group = fmt::format("layer {} {}", row.layer, row.phase),
                          .operation = operation_kind(row.op)});
  }
  return study;
}

}  // namespace pipecast
