#include <algorithm>

#include "model/fabric/fabric_kind.hpp"

namespace pipecast {
namespace {

/// Half of a spine's ports go down, half up.
int half(const FabricSpec& fabric) { return std::max(1, fabric.switch_ports / 2); }

/// Pods of k/2 leaves and as many spines as a leaf has up-links; spine i of every pod shares a
/// group of k/2 cores. k ports connect k^3/4 NICs. Source: Al-Fares et al. 2008, section 3.
FabricShape shape(const ClusterSpec& cluster) {
  const FabricSpec& fabric = cluster.fabric;
  const LeafPorts ports = leaf_ports(fabric);
  FabricShape s = leaves_for(cluster, ports.down, fabric.planes, 1);
  s.leaves_per_pod = std::min(half(fabric), s.leaves);
  s.pods = static_cast<int>(ceil_div(s.leaves, s.leaves_per_pod));
  if (s.leaves == 1) return s;
  s.up_links = ports.up;
  s.spines_per_pod =
      static_cast<int>(ceil_div(std::int64_t{s.leaves_per_pod} * ports.up, half(fabric)));
  if (s.pods == 1) return s;
  s.spine_up_links = half(fabric);
  s.cores_per_group =
      static_cast<int>(ceil_div(std::int64_t{s.pods} * s.spine_up_links, fabric.switch_ports));
  return s;
}

/// A core of k ports reaches k pods.
std::int64_t most_leaves(const FabricSpec& fabric) {
  return std::int64_t{fabric.switch_ports} * half(fabric);
}

double most_ports(const FabricSpec& fabric) {
  return static_cast<double>(leaf_ports(fabric).down) * static_cast<double>(most_leaves(fabric));
}

const Register<FabricKind> kEntry{
    "three-layer-fat-tree",
    {.shape = shape,
     .most_ports = most_ports,
     .most_leaves = most_leaves,
     .detours_between_pods = 1,
     .is_fat_tree = true,
     .layers = "three layers",
     .description = "pods of leaves and spines below cores, one such tree per plane"}};

}  // namespace
}  // namespace pipecast
