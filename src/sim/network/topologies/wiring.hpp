/// How layers of switches are wired to each other and to the nodes.
#pragma once

#include <vector>

#include "sim/network/topologies/fabric_graph.hpp"

namespace pipecast {

/// Deals the `up_links` cables of every lower switch out over the upper ones in turn, one after the
/// other, so that upper switches differ by one cable at most.
void wire_up(FabricGraph& fabric, const std::vector<Vertex>& lower,
             const std::vector<Vertex>& upper, int up_links, Duration latency);

/// Plugs the GPUs of one plane (or rail) into its leaves, node after node.
/// @param share  GPU i of every node with i mod shares == share
void plug_in_nodes(FabricGraph& fabric, const ClusterSpec& cluster, const FabricShape& shape,
                   const std::vector<Vertex>& leaves, int share, int shares);

/// Half of a way up and down. The odd picosecond is lost.
inline Duration half(Duration way) { return Duration(way.count() / 2); }

}  // namespace pipecast
