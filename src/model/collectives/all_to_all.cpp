#include "model/collectives/all_to_all.hpp"

#include <algorithm>
#include <cmath>

#include "model/ops/exchange.hpp"

namespace pipecast {

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

TransferCost all_to_all_time(const PortLoad& load, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower) {
  const bool crosses_nodes = load.nic > Bytes(0);
  const Duration nic = crosses_nodes ? load.nic / reached_nic(cluster, calibration) : Duration();
  const Duration nvlink = load.nvlink / reached_nvlink(cluster, calibration);
  const ExchangeWork work =
      sms > 0 ? exchange_work(load.exchange, calibration.communication, sms) : ExchangeWork{};
  TransferCost cost{.time = nic, .bound = TransferBound::kNic};
  if (nvlink > cost.time) cost = {.time = nvlink, .bound = TransferBound::kNvlink};
  const Duration moving =
      duration_from_picoseconds(static_cast<double>(work.moving.count()) * slower);
  if (moving > cost.time) cost = {.time = moving, .bound = TransferBound::kIssue};
  cost.time +=
      work.start + cluster.nvlink.latency + (crosses_nodes ? cluster.nic.latency : Duration());
  return cost;
}

}  // namespace pipecast
