#include "sim/cluster/exchange_plan.hpp"

#include <algorithm>
#include <cmath>

#include "model/collectives/links.hpp"

namespace pipecast {

namespace {

double largest_share(const std::vector<float>& counts, const std::vector<float>& even) {
  double most = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (even[i] > 0) most = std::max(most, static_cast<double>(counts[i] / even[i]));
  }
  return most;
}

Bytes scaled(Bytes bytes, double factor) {
  return Bytes(std::llround(static_cast<double>(bytes.count()) * factor));
}

}  // namespace

// What a GPU sends is the same for all, its own tokens; what it receives (in a combine the other
// way round) follows the load.
BusiestShares busiest_shares(const GroupLoad& load, const GroupLoad& even) {
  return {.nic = std::max(1.0, largest_share(load.node_copies, even.node_copies)),
          .copies = std::max(1.0, largest_share(load.received, even.received))};
}

PlannedExchange plan_exchange(std::size_t kind, const Scenario& scenario, const PlanSpec& plan,
                              const RoutingStatistics& routing, double fabric_slowdown) {
  const bool dispatch = kind < 2;
  const ContentionConstants& contention = scenario.calibration.contention;
  const std::array<const Constant*, kExchangeKinds> slower = {
      &contention.dispatch, &contention.cached_dispatch, &contention.combine};
  const Precision precision = dispatch ? plan.precision.dispatch : plan.precision.combine;
  PlannedExchange out{
      .load = balanced_port_load(routing, plan.micro_batch_size * scenario.recipe.seq_length,
                                 stored_bytes(precision, 1, scenario.model.hidden_size), plan.ep,
                                 scenario.cluster.gpus_per_node,
                                 dispatch ? Exchange::kDispatch : Exchange::kCombine),
      .slower = slower[kind]->value};
  out.time = all_to_all_time(out.load, scenario.cluster, scenario.calibration,
                             plan.communication_sms, out.slower)
                 .time;
  out.load.nic = scaled(out.load.nic, fabric_slowdown);
  out.nic = out.load.nic / reached_nic(scenario.cluster, scenario.calibration);
  return out;
}

double stretch_of(const PlannedExchange& exchange, const BusiestShares& shares,
                  const Scenario& scenario, const PlanSpec& plan) {
  ExchangeLoads loads = equal_loads(exchange.load);
  loads.nic_in = scaled(loads.nic_in, shares.nic);
  loads.nvlink_in = scaled(loads.nvlink_in, shares.copies);
  loads.copies_received *= shares.copies;
  loads.node_copies_received *= shares.nic;
  const TransferCost cost = all_to_all_time(loads, scenario.cluster, scenario.calibration,
                                            plan.communication_sms, exchange.slower);
  return static_cast<double>(cost.time.count()) / static_cast<double>(exchange.time.count());
}

}  // namespace pipecast
