/// The GPUs and switches of a cluster as a graph whose edges are links: one per direction.
#pragma once

#include <boost/graph/adjacency_list.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.hpp"
#include "model/fabric/fabric_kind.hpp"
#include "model/specs/cluster.hpp"
#include "sim/network/transfer_plan.hpp"

namespace pipecast {

enum class DeviceKind : std::uint8_t { kGpu, kNvswitch, kSwitch };

struct Device {
  DeviceKind kind{};
  int plane = 0;     ///< of a switch
  std::string name;  ///< "n3g5", "n3.nvswitch", "leaf0", "pod1.spine2", without the plane
};

/// The link that an edge stands for: a position in FabricGraph::links.
struct Hop {
  LinkIndex link = 0;
};

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS, Device, Hop>;
using Vertex = Graph::vertex_descriptor;
using Edge = Graph::edge_descriptor;

/// Link `i` has the latency latencies[i]; a GPU's NIC ports are one link each way ("n3g5.ib.up" and
/// ".ib.down", as fast as its ports and PCIe allow), as is its NVLink ("n3g5.nv.up"). Links between
/// switches are named after both ends ("p0.leaf0.spine1"), with "#1" and on where several cables
/// join the same two; the plane is left out where there is one.
class FabricGraph {
 public:
  /// The nodes of the cluster, each with its NVSwitch; switches are the topology's to add.
  explicit FabricGraph(const ClusterSpec& cluster);

  Graph graph;
  std::vector<Link> links;
  std::vector<Duration> latencies;
  std::vector<Vertex> gpus;  ///< by number: node * gpus_per_node + index

  Vertex add_switch(int plane, std::string name);

  /// Both directions of the cable from a switch up to another.
  void join(Vertex lower, Vertex upper, Duration latency);

  /// The NIC ports of a GPU and their way to a leaf.
  void plug_in(int gpu, Vertex leaf);

  /// Takes down the switches and cables of the cluster's list.
  /// @throws Error for a name that is nowhere, with the nearest one
  void fail(const std::vector<std::string>& names);

  [[nodiscard]] int gpus_per_node() const { return cluster_.gpus_per_node; }
  [[nodiscard]] std::string gpu_name(int gpu) const;
  /// With its plane where there are several.
  [[nodiscard]] std::string switch_name(Vertex device) const;

 private:
  void add_link(Vertex from, Vertex to, std::string id, Bandwidth bandwidth, Duration latency);

  ClusterSpec cluster_;
  bool several_planes_;
};

/// What a topology's file registers, under the name of its FabricKind.
struct TopologyKind {
  /// Adds switches and plugs in the NICs.
  void (*build)(FabricGraph&, const ClusterSpec&) = nullptr;
};

/// The whole fabric, less what the cluster says has failed.
FabricGraph build_fabric(const ClusterSpec& cluster);

/// Latency of a message between two GPUs of a whole fabric: that of its links, but for a dragonfly,
/// where it is that of the longest way between the two groups.
Duration gpu_latency(const ClusterSpec& cluster, int from, int to);

}  // namespace pipecast
