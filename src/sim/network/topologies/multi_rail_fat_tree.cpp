#include "sim/network/topologies/wiring.hpp"

namespace pipecast {
namespace {

void build(FabricGraph& fabric, const ClusterSpec& cluster) {
  const FabricShape shape = fabric_shape(cluster);
  std::vector<Vertex> all;
  for (int rail = 0; rail < shape.rails; ++rail) {
    std::vector<Vertex> leaves;
    for (int i = 0; i < shape.leaves / shape.rails; ++i)
      leaves.push_back(fabric.add_switch(0, fmt::format("rail{}.leaf{}", rail, i)));
    plug_in_nodes(fabric, cluster, shape, leaves, rail, shape.rails);
    all.insert(all.end(), leaves.begin(), leaves.end());
  }
  std::vector<Vertex> spines;
  for (int i = 0; i < shape.spines_per_pod; ++i)
    spines.push_back(fabric.add_switch(0, fmt::format("spine{}", i)));
  wire_up(fabric, all, spines, shape.up_links, half(cluster.fabric.spine_latency));
}

const Register<TopologyKind> kEntry{"multi-rail-fat-tree", {build}};

}  // namespace
}  // namespace pipecast
