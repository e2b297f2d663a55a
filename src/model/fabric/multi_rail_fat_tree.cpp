#include "model/fabric/fabric_kind.hpp"
#include "model/fabric/two_layers.hpp"

namespace pipecast {
namespace {

/// One two-layer fat tree in which GPU i of a block of nodes shares a leaf, its rail, with GPU i of
/// the others; all rails meet at the spines. Source: Insights into DeepSeek-V3 (arXiv 2505.09343),
/// section 5.1 (the multi-rail tree that it compares with).
FabricShape shape(const ClusterSpec& cluster) {
  return two_layers(leaves_for(cluster, leaf_ports(cluster.fabric).down, 1, cluster.fabric.planes),
                    cluster.fabric);
}

const Register<FabricKind> kEntry{
    "multi-rail-fat-tree",
    {.shape = shape,
     .most_ports = two_layer_ports,
     .most_leaves = two_layer_leaves,
     .is_fat_tree = true,
     .layers = "two layers",
     .description = "one two-layer fat tree; GPU i of neighbouring nodes share a leaf, rail i"}};

}  // namespace
}  // namespace pipecast
