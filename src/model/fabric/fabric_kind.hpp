/// How many switches and cables a fabric takes, and which nodes share a leaf: arithmetic alone. The
/// graph of the same name is in sim/network/topologies.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/registry.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

/// The switches that connect a cluster's nodes. Nodes fill leaves in order, leaves fill pods; pods
/// are built whole, leaves and layers above only as far as the nodes need them.
struct FabricShape {
  int planes = 0;          ///< networks without a switch in common
  int rails = 1;           ///< sets of leaves of a plane, one for each share of a node's GPUs
  int ports_per_node = 0;  ///< NIC ports of one node on one leaf
  int down_links = 0;      ///< ports of a leaf towards nodes
  int nodes_per_leaf = 0;
  int leaves = 0;          ///< of all rails of a plane
  int leaves_per_pod = 0;  ///< at most
  int pods = 0;
  int up_links = 0;         ///< cables of a leaf to spines of its pod
  int spines_per_pod = 0;   ///< a pod without another has no more than its leaves need
  int spine_up_links = 0;   ///< cables of a spine to cores
  int cores_per_group = 0;  ///< cores that the spines of one number, one of each pod, share
  int local_links = 0;      ///< cables of a leaf to other leaves of its pod (dragonfly)
  int global_links = 0;     ///< cables of a leaf's global ports that are used at most (dragonfly)
  std::int64_t global_cables = 0;  ///< cables between the pods of a plane (dragonfly)

  bool operator==(const FabricShape&) const = default;
};

/// What is bought.
struct FabricCount {
  std::int64_t endpoints = 0;  ///< NIC ports, each with a cable to its leaf
  std::int64_t switches = 0;   ///< without the NVSwitches of the nodes
  std::int64_t links = 0;      ///< cables between switches

  bool operator==(const FabricCount&) const = default;
};

/// What a topology's file registers.
struct FabricKind {
  /// The switches for a cluster. Its specs hold positive numbers, and planes divide the GPUs.
  FabricShape (*shape)(const ClusterSpec&) = nullptr;
  /// NIC ports that one plane of such switches can connect.
  double (*most_ports)(const FabricSpec&) = nullptr;
  /// Leaves that one plane can have.
  std::int64_t (*most_leaves)(const FabricSpec&) = nullptr;
  /// How often the way between two pods takes the detour inside one; 0: there is a single pod.
  int detours_between_pods = 0;
  bool is_fat_tree = false;      ///< non-blocking without oversubscription
  std::string_view layers;       ///< for messages: "two layers"
  std::string_view description;  ///< one line
};

/// Ports of a leaf towards nodes and towards spines, so that down / up is at most the
/// oversubscription.
struct LeafPorts {
  int down = 0;
  int up = 0;
};
LeafPorts leaf_ports(const FabricSpec& fabric);

/// A shape with its nodes put below leaves with `down` ports each; the layers above are empty.
/// @param rails  leaves that a node is connected to in one plane
FabricShape leaves_for(const ClusterSpec& cluster, int down, int planes, int rails);

FabricShape fabric_shape(const ClusterSpec& cluster);

/// Switches and cables of all planes.
FabricCount count_fabric(const ClusterSpec& cluster);

/// Slim Fly (Besta and Hoefler 2014, section II.B: McKay-Miller-Siran graphs of diameter 2): 2 q^2
/// switches with (3 q - delta) / 2 links each to others, where q = 4 w + delta, and half as many
/// endpoints, rounded up. Only counted: a graph exists for prime powers q alone, and the published
/// row's q, 28, is none.
/// @throws Error if q is not 4 w - 1, 4 w or 4 w + 1 with w > 0
FabricCount slim_fly_count(int q);

/// What the parts cost.
struct FabricPrices {
  /// Per switch of 64 ports: 350.4 k - 892.3 USD for k ports, the cost model of the Slim Fly paper
  /// (Besta and Hoefler 2014, section VI; cited from memory), which the published table follows.
  Usd switch_price{350.4 * 64 - 892.3};
  /// Per cable between switches, optical, and per cable to a NIC, copper: solved from the published
  /// costs of two rows, FT2 (4.39 kUSD an endpoint) and FT3 (491 MUSD), of "Insights into
  /// DeepSeek-V3" (arXiv 2505.09343), table 3, after the switches above. The other rows then come
  /// out within 1 %.
  Usd link{2430};
  Usd endpoint_link{950};
};

Usd fabric_cost(const FabricCount& count, const FabricPrices& prices);

}  // namespace pipecast
