#include "model/collectives/all_to_all.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/ops/exchange.hpp"

namespace pipecast {

namespace {

/// SM work of the half that has more to do, sending or receiving, as if both had as much.
ExchangeWork busier_half(const ExchangeLoads& loads, const CalibrationSpec& calibration, int sms) {
  const auto half = [&](double copies, double node_copies) {
    return exchange_work({.kind = loads.kind,
                          .tokens = loads.tokens,
                          .gpu_copies = copies,
                          .node_copies = node_copies,
                          .copy = loads.copy},
                         calibration.communication, sms);
  };
  const ExchangeWork sending = half(loads.copies_sent, loads.node_copies_sent);
  const ExchangeWork receiving = half(loads.copies_received, loads.node_copies_received);
  return sending.moving > receiving.moving ? sending : receiving;
}

}  // namespace

PortLoad balanced_port_load(const RoutingStatistics& routing, std::int64_t tokens, Bytes copy_bytes,
                            int ep, int gpus_per_node, Exchange kind) {
  const int nodes = std::max(1, ep / gpus_per_node);
  const int local = std::min(ep, gpus_per_node);
  // A token's own node is among its nodes as often as any other; the same holds for the forwarding
  // GPU among the GPUs of a node.
  const double remote_nodes = routing.nodes_per_token * (nodes - 1) / nodes;
  const double other_gpus = routing.gpus_per_token * (local - 1) / local;
  const auto bytes = [&](double copies) {
    return Bytes(std::llround(static_cast<double>(tokens) * copies *
                              static_cast<double>(copy_bytes.count())));
  };
  const double copies = static_cast<double>(tokens) * routing.gpus_per_token;
  const double node_copies = nodes > 1 ? static_cast<double>(tokens) * routing.nodes_per_token : 0;
  return {.nic = bytes(remote_nodes),
          .nvlink = bytes(other_gpus),
          .exchange = {.kind = kind,
                       .tokens = static_cast<double>(tokens),
                       .gpu_copies = copies,
                       .node_copies = node_copies,
                       .copy = copy_bytes}};
}

PortLoad even_port_load(Exchange kind, const ExchangeGroup& group, Precision precision) {
  const ExchangeShape shape = even_exchange(kind, group, precision);
  const auto gpus_per_node = static_cast<double>(group.gpus_per_node);
  const auto nodes = static_cast<double>(group.nodes);
  const auto bytes = [&](double copies) {
    return Bytes(std::llround(copies * static_cast<double>(shape.copy.count())));
  };
  return {.nic = bytes(shape.node_copies * (nodes - 1) / nodes),
          .nvlink = bytes(shape.gpu_copies * (gpus_per_node - 1) / gpus_per_node),
          .exchange = shape};
}

ExchangeLoads equal_loads(const PortLoad& load) {
  const ExchangeShape& exchange = load.exchange;
  return {.kind = exchange.kind,
          .tokens = exchange.tokens,
          .copy = exchange.copy,
          .nic_out = load.nic,
          .nic_in = load.nic,
          .nvlink_out = load.nvlink,
          .nvlink_in = load.nvlink,
          .copies_sent = exchange.gpu_copies,
          .copies_received = exchange.gpu_copies,
          .node_copies_sent = exchange.node_copies,
          .node_copies_received = exchange.node_copies};
}

ExchangeLoads busiest_loads(std::span<const GpuCopies> gpus, Exchange kind, double tokens,
                            Bytes copy_bytes) {
  ExchangeLoads out{.kind = kind, .tokens = tokens, .copy = copy_bytes};
  const auto bytes = [&](double copies) {
    return Bytes(std::llround(copies * static_cast<double>(copy_bytes.count())));
  };
  const auto raise = [](auto& largest, auto value) { largest = std::max(largest, value); };
  for (const GpuCopies& gpu : gpus) {
    raise(out.nic_out, bytes(gpu.nodes_out));
    raise(out.nic_in, bytes(gpu.nodes_in));
    raise(out.nvlink_out, bytes(gpu.gpus_out));
    raise(out.nvlink_in, bytes(gpu.gpus_in));
    raise(out.copies_sent, gpu.gpus_out + gpu.gpus_kept);
    raise(out.copies_received, gpu.gpus_in + gpu.gpus_kept);
    raise(out.node_copies_sent, gpu.nodes_out + gpu.nodes_kept);
    raise(out.node_copies_received, gpu.nodes_in + gpu.nodes_kept);
  }
  if (kind == Exchange::kCombine) {
    std::swap(out.nic_out, out.nic_in);
    std::swap(out.nvlink_out, out.nvlink_in);
    std::swap(out.copies_sent, out.copies_received);
    std::swap(out.node_copies_sent, out.node_copies_received);
  }
  return out;
}

TransferCost all_to_all_time(const ExchangeLoads& loads, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower) {
  const Bytes through_nic = std::max(loads.nic_out, loads.nic_in);
  const bool crosses_nodes = through_nic > Bytes(0);
  const Duration nic = crosses_nodes ? through_nic / reached_nic(cluster, calibration) : Duration();
  const Duration nvlink =
      std::max(loads.nvlink_out, loads.nvlink_in) / reached_nvlink(cluster, calibration);
  const ExchangeWork work = sms > 0 ? busier_half(loads, calibration, sms) : ExchangeWork{};
  const auto slowed = [&](Duration alone) {
    return duration_from_picoseconds(static_cast<double>(alone.count()) * slower);
  };
  TransferCost cost{.time = nic, .bound = TransferBound::kNic};
  if (nvlink > cost.time) cost = {.time = nvlink, .bound = TransferBound::kNvlink};
  const Duration moving = slowed(work.moving);
  if (moving > cost.time) cost = {.time = moving, .bound = TransferBound::kIssue};
  cost.time += work.start + slowed(work.filling) + cluster.nvlink.latency +
               (crosses_nodes ? cluster.nic.latency : Duration());
  return cost;
}

TransferCost all_to_all_time(const PortLoad& load, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower) {
  return all_to_all_time(equal_loads(load), cluster, calibration, sms, slower);
}

}  // namespace pipecast
