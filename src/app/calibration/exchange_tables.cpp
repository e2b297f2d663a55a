#include "app/calibration/exchange_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/tables/csv.hpp"
#include "model/operations/exchange_shapes.hpp"

namespace pipecast {

namespace {

constexpr std::array kBoth = {Exchange::kDispatch, Exchange::kCombine};

Precision precision_of(Exchange kind) {
  return kind == Exchange::kDispatch ? Precision::kFp8 : Precision::kBf16;
}

}  // namespace

Duration published_time(const PortLoad& load, Bandwidth logical) {
  const ExchangeShape& exchange = load.exchange;
  const double copies = exchange.node_copies > 0 ? exchange.node_copies : exchange.gpu_copies;
  return Bytes(std::llround(copies * static_cast<double>(exchange.copy.count()))) / logical;
}

std::vector<MeasuredExchange> published_exchanges(const std::filesystem::path& traces,
                                                  const ModelSpec& model, int gpus_per_node) {
  constexpr int kSms = 24;  // DeepEP, README: Buffer.set_num_sms(24); its tests' num_sms
  constexpr double kGigabyte = 1e9;
  const CsvTable table(traces / kPublishedExchanges);
  std::vector<MeasuredExchange> out;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    if (table.text(i, "date") != "2025-04-22") continue;
    const auto extent = [&](const char* column) {
      return static_cast<std::int64_t>(table.number(i, column));
    };
    const auto gpus = static_cast<int>(extent("ep"));
    ModelSpec gate = model;
    gate.num_experts_per_tok = extent("top_k");
    gate.n_group = gpus / gpus_per_node;
    gate.topk_group = std::min(extent("top_groups"), gate.n_group);
    const RoutingStatistics routing = balanced_routing(gate, gpus, gpus_per_node);
    for (const Exchange kind : kBoth) {
      const char* column = kind == Exchange::kDispatch ? "dispatch_gb_s" : "combine_gb_s";
      const Bytes copy = stored_bytes(precision_of(kind), 1, extent("hidden"));
      const PortLoad load =
          balanced_port_load(routing, extent("tokens"), copy, gpus, gpus_per_node, kind);
      const Duration time = published_time(load, Bandwidth(table.number(i, column) * kGigabyte));
      out.push_back({.load = load,
                     .nodes = gpus / gpus_per_node,
                     .sms = kSms,
                     .time_us = to_microseconds(time),
                     .shape = fmt::format("{} GPUs", gpus)});
    }
  }
  return out;
}

std::vector<MeasuredExchange> timed_exchanges(const std::filesystem::path& traces,
                                              const std::string& file, int gpus_per_node) {
  const CsvTable table(traces / file);
  std::vector<MeasuredExchange> out;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto extent = [&](const char* column) {
      return static_cast<std::int64_t>(table.number(i, column));
    };
    const ExchangeGroup group{.tokens = extent("tokens_per_gpu"),
                              .hidden = extent("hidden"),
                              .top_k = extent("top_k"),
                              .experts = extent("experts"),
                              .nodes = extent("nodes"),
                              .gpus_per_node = gpus_per_node};
    for (const Exchange kind : kBoth) {
      const bool dispatch = kind == Exchange::kDispatch;
      out.push_back(
          {.load = even_port_load(kind, group, precision_of(kind)),
           .nodes = static_cast<int>(group.nodes),
           .sms = static_cast<int>(extent("sms")),
           .time_us = table.number(i, dispatch ? "dispatch_us" : "combine_us"),
           .notify_us = table.number(i, dispatch ? "dispatch_notify_us" : "combine_notify_us"),
           .shape = fmt::format("{} nodes, {} of {} experts, {} columns", group.nodes, group.top_k,
                                group.experts, group.hidden)});
    }
  }
  return out;
}

}  // namespace pipecast
