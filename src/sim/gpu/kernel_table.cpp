#include "sim/gpu/kernel_table.hpp"

#include <algorithm>

#include "model/collectives/all_to_all.hpp"
#include "model/collectives/links.hpp"
#include "model/operations/layer_operations.hpp"
#include "model/ops/attention_machine.hpp"
#include "model/ops/exchange.hpp"

namespace pipecast {

namespace {

/// Thread blocks of ep_layout. Source: traces/h800_dualpipe_chunk.
constexpr int kLayoutBlocks = 16;

std::string_view name_of(TransferBound bound) {
  switch (bound) {
    case TransferBound::kNic:
      return "nic";
    case TransferBound::kNvlink:
      return "nvlink";
    case TransferBound::kIssue:
      return "issue";
  }
  return "";
}

bool is_notification(const Operation& op) {
  return op.op == "ep_notify" || op.op == "ep_cached_notify";
}

bool is_transfer(const Operation& op) { return op.op == "ep_dispatch" || op.op == "ep_combine"; }

}  // namespace

KernelTable::KernelTable(const Scenario& scenario, const PlanSpec& plan,
                         const RoutingStatistics& routing, Duration peers_late)
    : scenario_(scenario),
      plan_(plan),
      routing_(routing),
      peers_late_(peers_late),
      balanced_copies_(static_cast<double>(
          balanced_load(scenario.model, plan, scenario.recipe.seq_length).received_tokens)),
      machine_(in_training(scenario.cluster.gpu, scenario.calibration)),
      links_({machine_.gpu.hbm_bandwidth.count() * machine_.calibration.link.hbm.value,
              kL2BytesPerClock * machine_.gpu.max_clock.count(),
              reached_nvlink(scenario.cluster, scenario.calibration).count(),
              reached_nic(scenario.cluster, scenario.calibration).count()}),
      memo_(machine_.gpu, machine_.calibration) {}

int KernelTable::add(const Operation& operation, bool split) {
  const auto [it, fresh] =
      known_.try_emplace({operation, split}, static_cast<int>(kernels_.size()));
  if (!fresh) return it->second;
  const int all = scenario_.cluster.gpu.sm_count;
  const int communication = plan_.communication_sms;
  const std::string_view op = operation.op;
  GpuKernel kernel{.operation = operation};
  const auto launch_on = [&](int sms) {
    kernel.use = sms > 0 ? SmUse::kGrid : SmUse::kNone;
    kernel.grid = sms;
  };
  if (is_product(operation)) {
    launch_on(split ? all - communication : all);
  } else if (is_transfer(operation)) {
    launch_on(communication);
    kernel.transfer = true;
  } else if (op == "ep_cached_notify") {
    launch_on(communication);
  } else if (op == "ep_notify") {
    // One thread block for every GPU of the node, one for the other nodes (trace: 9).
    launch_on(communication > 0 ? scenario_.cluster.gpus_per_node + 1 : 0);
  } else if (op == "ep_layout") {
    launch_on(std::min(kLayoutBlocks, all));
  }
  kernels_.push_back(kernel);
  costs_.emplace_back();
  return it->second;
}

const GpuKernelCost& KernelTable::cost(int kernel, int sms) {
  const GpuKernel& wanted = at(kernel);
  std::vector<GpuKernelCost>& known = costs_[static_cast<std::size_t>(kernel)];
  if (wanted.transfer || wanted.use == SmUse::kNone) sms = 0;
  for (const GpuKernelCost& cost : known) {
    if (cost.sms == sms) return cost;
  }
  known.push_back(fresh_cost(wanted, sms));
  return known.back();
}

GpuKernelCost KernelTable::fresh_cost(const GpuKernel& kernel, int sms) {
  if (kernel.transfer) return transfer_cost(kernel.operation);
  const KernelCost& cost = memo_.cost(machine_.kernel_of(kernel.operation), std::max(sms, 1));
  return {.sms = sms,
          .time = cost.time + (is_notification(kernel.operation) ? peers_late_ : Duration()),
          .hbm_bytes = static_cast<double>(cost.hbm_bytes.count()),
          .l2_bytes = static_cast<double>(cost.l2_bytes.count()),
          .limited_by = pipecast::name_of(cost.limited_by)};
}

GpuKernelCost KernelTable::transfer_cost(const Operation& operation) const {
  // A GPU that receives more copies than balanced routing gives it moves as many more.
  const ExchangeShape& shape = operation.exchange;
  const double share = shape.gpu_copies / balanced_copies_;
  const RoutingStatistics routing{.nodes_per_token = routing_.nodes_per_token * share,
                                  .gpus_per_token = routing_.gpus_per_token * share};
  const PortLoad load = balanced_port_load(routing, std::llround(shape.tokens), shape.copy,
                                           plan_.ep, scenario_.cluster.gpus_per_node, shape.kind);
  const ContentionConstants& contention = scenario_.calibration.contention;
  const Constant& slower = shape.kind == Exchange::kCombine ? contention.combine
                           : shape.cached                   ? contention.cached_dispatch
                                                            : contention.dispatch;
  const auto time = [&](double factor) {
    return all_to_all_time(load, scenario_.cluster, scenario_.calibration, plan_.communication_sms,
                           factor);
  };
  const TransferCost cost = time(1);
  return {.time = cost.time,
          .beside = time(slower.value).time,
          .hbm_bytes = static_cast<double>(staged_bytes(load.exchange).count()),
          .l2_bytes = static_cast<double>(staged_bytes(load.exchange).count()),
          .nvlink_bytes = static_cast<double>(load.nvlink.count()),
          .nic_bytes = static_cast<double>(load.nic.count()),
          .limited_by = name_of(cost.bound)};
}

}  // namespace pipecast
