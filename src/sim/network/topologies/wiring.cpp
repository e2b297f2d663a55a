#include "sim/network/topologies/wiring.hpp"

namespace pipecast {

void wire_up(FabricGraph& fabric, const std::vector<Vertex>& lower,
             const std::vector<Vertex>& upper, int up_links, Duration latency) {
  std::size_t next = 0;
  for (const Vertex from : lower) {
    for (int cable = 0; cable < up_links; ++cable) {
      fabric.join(from, upper[next++ % upper.size()], latency);
    }
  }
}

void plug_in_nodes(FabricGraph& fabric, const ClusterSpec& cluster, const FabricShape& shape,
                   const std::vector<Vertex>& leaves, int share, int shares) {
  for (int node = 0; node < cluster.nodes; ++node) {
    const Vertex leaf = leaves[static_cast<std::size_t>(node / shape.nodes_per_leaf)];
    for (int i = share; i < cluster.gpus_per_node; i += shares) {
      fabric.plug_in(node * cluster.gpus_per_node + i, leaf);
    }
  }
}

}  // namespace pipecast
