#include "sim/network/fabric_slowdown.hpp"

#include <algorithm>

#include "sim/network/plan_builder.hpp"
#include "sim/network/transfers.hpp"

namespace pipecast {

namespace {

// Any size will do: without latency times are in proportion to it.
constexpr Bytes kBytesPerPair(1'000'000);

bool below_one_leaf(const std::vector<int>& nodes, int nodes_per_leaf) {
  return std::all_of(nodes.begin(), nodes.end(), [&](int node) {
    return node / nodes_per_leaf == nodes.front() / nodes_per_leaf;
  });
}

/// Whether nothing can collide.
bool is_undisturbed(const ClusterSpec& cluster, const std::vector<std::vector<int>>& groups) {
  const FabricSpec& fabric = cluster.fabric;
  if (!fabric.failed.empty()) return false;
  const FabricKind& kind = Registry<FabricKind>::instance().find(fabric.topology);
  const bool non_blocking = kind.is_fat_tree && fabric.oversubscription == 1;
  if (non_blocking && fabric.routing == FabricRouting::kAdaptive) return true;
  const int nodes_per_leaf = kind.shape(cluster).nodes_per_leaf;
  return std::all_of(groups.begin(), groups.end(), [&](const std::vector<int>& nodes) {
    return below_one_leaf(nodes, nodes_per_leaf);
  });
}

/// Every GPU of one node sends to the GPU of its index on every other node of the group.
PlacedCollective exchange(const std::vector<int>& nodes, int gpus_per_node, std::size_t number) {
  PlacedCollective out{.name = fmt::format("group{}", number)};
  const auto count = static_cast<int>(nodes.size());
  for (const int node : nodes) {
    for (int i = 0; i < gpus_per_node; ++i) out.gpus.push_back(node * gpus_per_node + i);
  }
  // Neighbour by neighbour, as kernels do, so that all send at once to different ones.
  for (int distance = 1; distance < count; ++distance) {
    for (int member = 0; member < count * gpus_per_node; ++member) {
      const int to = (member + distance * gpus_per_node) % (count * gpus_per_node);
      out.transfers.push_back({.from = member, .to = to, .bytes = kBytesPerPair});
    }
  }
  return out;
}

}  // namespace

std::vector<double> fabric_slowdown(const ClusterSpec& cluster,
                                    const std::vector<std::vector<int>>& groups) {
  std::vector<double> out(groups.size(), 1);
  if (is_undisturbed(cluster, groups)) return out;
  ClusterSpec without_latency = cluster;
  without_latency.nvlink.latency = without_latency.nic.latency = Duration();
  without_latency.fabric.spine_latency = without_latency.fabric.core_latency = Duration();
  const FabricGraph fabric = build_fabric(without_latency);
  PlanBuilder builder(fabric, cluster.fabric.routing, cluster.fabric.routing_seed);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    builder.add(exchange(groups[i], cluster.gpus_per_node, i));
  }
  const Completion completion = complete_transfers(builder.plan());
  const double pair_s = static_cast<double>(kBytesPerPair.count()) / cluster.nic_per_gpu().count();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].size() < 2) continue;
    out[i] = completion.group_s[i] / (static_cast<double>(groups[i].size() - 1) * pair_s);
  }
  return out;
}

}  // namespace pipecast
