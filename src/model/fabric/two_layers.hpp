/// What trees of leaves and spines have in common.
#pragma once

#include <algorithm>

#include "model/fabric/fabric_kind.hpp"

namespace pipecast {

/// Adds spines: every one has a cable to each leaf, or several, as few as carry all up-links.
inline FabricShape two_layers(FabricShape shape, const FabricSpec& fabric) {
  shape.pods = 1;
  shape.leaves_per_pod = shape.leaves;
  if (shape.leaves == 1) return shape;
  shape.up_links = leaf_ports(fabric).up;
  shape.spines_per_pod =
      static_cast<int>(ceil_div(std::int64_t{shape.leaves} * shape.up_links, fabric.switch_ports));
  return shape;
}

/// A spine of k ports reaches k leaves.
inline std::int64_t two_layer_leaves(const FabricSpec& fabric) { return fabric.switch_ports; }

inline double two_layer_ports(const FabricSpec& fabric) {
  return static_cast<double>(leaf_ports(fabric).down) * fabric.switch_ports;
}

}  // namespace pipecast
