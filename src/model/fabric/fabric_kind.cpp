#include "model/fabric/fabric_kind.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast {

LeafPorts leaf_ports(const FabricSpec& fabric) {
  const double share = fabric.oversubscription / (1 + fabric.oversubscription);
  const int down = std::max(1, static_cast<int>(std::floor(fabric.switch_ports * share)));
  const int up = static_cast<int>(std::ceil(down / fabric.oversubscription));
  return {.down = down, .up = std::clamp(up, 1, std::max(1, fabric.switch_ports - down))};
}

FabricShape leaves_for(const ClusterSpec& cluster, int down, int planes, int rails) {
  const int ports = cluster.gpus_per_node * cluster.nic.per_gpu / (planes * rails);
  FabricShape shape{.planes = planes, .rails = rails, .ports_per_node = ports, .down_links = down};
  shape.nodes_per_leaf = std::max(1, down / ports);
  shape.leaves = rails * static_cast<int>(ceil_div(cluster.nodes, shape.nodes_per_leaf));
  return shape;
}

FabricShape fabric_shape(const ClusterSpec& cluster) {
  return Registry<FabricKind>::instance().find(cluster.fabric.topology).shape(cluster);
}

FabricCount count_fabric(const ClusterSpec& cluster) {
  const FabricShape s = fabric_shape(cluster);
  const std::int64_t spines = std::int64_t{s.spines_per_pod} * s.pods;
  // A leaf's cables to its own kind are shared by two.
  const std::int64_t links = std::int64_t{s.leaves} * s.up_links + spines * s.spine_up_links +
                             std::int64_t{s.leaves} * s.local_links / 2 + s.global_cables;
  const std::int64_t cores = std::int64_t{s.cores_per_group} * s.spines_per_pod;
  return {.endpoints = std::int64_t{cluster.gpus()} * cluster.nic.per_gpu,
          .switches = s.planes * (s.leaves + spines + cores),
          .links = s.planes * links};
}

Usd fabric_cost(const FabricCount& count, const FabricPrices& prices) {
  return static_cast<double>(count.switches) * prices.switch_price +
         static_cast<double>(count.links) * prices.link +
         static_cast<double>(count.endpoints) * prices.endpoint_link;
}

}  // namespace pipecast
