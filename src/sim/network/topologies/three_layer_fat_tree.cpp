#include <algorithm>

#include "sim/network/topologies/wiring.hpp"

namespace pipecast {
namespace {

void build_plane(FabricGraph& fabric, const ClusterSpec& cluster, const FabricShape& shape,
                 int plane) {
  std::vector<Vertex> all;
  std::vector<std::vector<Vertex>> alike(static_cast<std::size_t>(shape.spines_per_pod));
  for (int pod = 0; pod < shape.pods; ++pod) {
    std::vector<Vertex> leaves;
    std::vector<Vertex> spines;
    const int left = shape.leaves - pod * shape.leaves_per_pod;
    for (int i = 0; i < std::min(left, shape.leaves_per_pod); ++i)
      leaves.push_back(fabric.add_switch(plane, fmt::format("pod{}.leaf{}", pod, i)));
    for (int i = 0; i < shape.spines_per_pod; ++i) {
      spines.push_back(fabric.add_switch(plane, fmt::format("pod{}.spine{}", pod, i)));
      alike[static_cast<std::size_t>(i)].push_back(spines.back());
    }
    wire_up(fabric, leaves, spines, shape.up_links, half(cluster.fabric.spine_latency));
    all.insert(all.end(), leaves.begin(), leaves.end());
  }
  const Duration to_core = half(cluster.fabric.core_latency - cluster.fabric.spine_latency);
  for (std::size_t i = 0; i < alike.size(); ++i) {
    std::vector<Vertex> cores;
    for (int j = 0; j < shape.cores_per_group; ++j)
      cores.push_back(fabric.add_switch(plane, fmt::format("group{}.core{}", i, j)));
    if (!cores.empty()) wire_up(fabric, alike[i], cores, shape.spine_up_links, to_core);
  }
  plug_in_nodes(fabric, cluster, shape, all, plane, shape.planes);
}

void build(FabricGraph& fabric, const ClusterSpec& cluster) {
  const FabricShape shape = fabric_shape(cluster);
  for (int plane = 0; plane < shape.planes; ++plane) build_plane(fabric, cluster, shape, plane);
}

const Register<TopologyKind> kEntry{"three-layer-fat-tree", {build}};

}  // namespace
}  // namespace pipecast
