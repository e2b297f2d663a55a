#include "model/fabric/fabric_kind.hpp"
#include "model/fabric/two_layers.hpp"

namespace pipecast {
namespace {

/// A two-layer fat tree for every plane. Source: Insights into DeepSeek-V3 (arXiv 2505.09343),
/// section 5.1.
FabricShape shape(const ClusterSpec& cluster) {
  return two_layers(leaves_for(cluster, leaf_ports(cluster.fabric).down, cluster.fabric.planes, 1),
                    cluster.fabric);
}

const Register<FabricKind> kEntry{
    "multi-plane-fat-tree",
    {.shape = shape,
     .most_ports = two_layer_ports,
     .most_leaves = two_layer_leaves,
     .is_fat_tree = true,
     .layers = "two layers",
     .description =
         "a two-layer fat tree per plane; GPU i of every node is on plane i mod planes"}};

}  // namespace
}  // namespace pipecast
