#include "sim/network/topologies/wiring.hpp"

namespace pipecast {
namespace {

void build(FabricGraph& fabric, const ClusterSpec& cluster) {
  const FabricShape shape = fabric_shape(cluster);
  for (int plane = 0; plane < shape.planes; ++plane) {
    std::vector<Vertex> leaves;
    std::vector<Vertex> spines;
    for (int i = 0; i < shape.leaves; ++i)
      leaves.push_back(fabric.add_switch(plane, fmt::format("leaf{}", i)));
    for (int i = 0; i < shape.spines_per_pod; ++i)
      spines.push_back(fabric.add_switch(plane, fmt::format("spine{}", i)));
    wire_up(fabric, leaves, spines, shape.up_links, half(cluster.fabric.spine_latency));
    plug_in_nodes(fabric, cluster, shape, leaves, plane, shape.planes);
  }
}

const Register<TopologyKind> kEntry{"multi-plane-fat-tree", {build}};

}  // namespace
}  // namespace pipecast
