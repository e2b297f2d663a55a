#include <array>
#include <string>
#include <vector>

#include "app/config/sections/sections.hpp"
#include "model/fabric/fabric_kind.hpp"

namespace pipecast::config {

namespace {

constexpr double kMostGpus = 1'000'000;  // ten times the largest cluster built so far

std::vector<std::string_view> topologies() {
  static const std::vector<std::string> kNames = Registry<FabricKind>::instance().names();
  return {kNames.begin(), kNames.end()};
}

constexpr std::array kRoutings = {
    Choice<FabricRouting>{"static", FabricRouting::kStatic},
    Choice<FabricRouting>{"ecmp", FabricRouting::kEcmp},
    Choice<FabricRouting>{"adaptive", FabricRouting::kAdaptive},
};

/// The switches have ports enough for the nodes.
void check_fabric(Fields& f, const ClusterSpec& cluster) {
  const FabricSpec& fabric = cluster.fabric;
  f.check(fabric.planes > 0 && cluster.gpus_per_node % fabric.planes == 0, "fabric.planes",
          "{} planes do not divide the {} GPUs of a node", fabric.planes, cluster.gpus_per_node);
  // Without a name nothing has been read: keys are being listed.
  if (fabric.topology.empty()) return;
  const FabricKind& kind = Registry<FabricKind>::instance().find(fabric.topology);
  const FabricShape shape = kind.shape(cluster);
  const double nics = static_cast<double>(cluster.nodes) * shape.ports_per_node * shape.rails;
  f.check(nics <= kind.most_ports(fabric), "fabric.switch_ports",
          "{} nodes put {} ports on each of {} planes; {} of {}-port switches connect {}",
          cluster.nodes, nics, shape.planes, kind.layers, fabric.switch_ports,
          kind.most_ports(fabric));
  f.check(shape.ports_per_node <= shape.down_links, "fabric.switch_ports",
          "a node puts {} ports on a leaf switch that has {} for nodes", shape.ports_per_node,
          shape.down_links);
  f.check(shape.leaves <= kind.most_leaves(fabric), "fabric.switch_ports",
          "{} nodes need {} leaf switches, {} nodes below each; {} of {}-port switches have {}",
          cluster.nodes, shape.leaves, shape.nodes_per_leaf, kind.layers, fabric.switch_ports,
          kind.most_leaves(fabric));
  const Duration detours = fabric.spine_latency * kind.detours_between_pods;
  f.check(fabric.core_latency >= detours, "fabric.core_latency",
          "is {} us; expected at least {} us, {} times the spine_latency, for this topology",
          to_microseconds(fabric.core_latency), to_microseconds(detours),
          kind.detours_between_pods);
}

}  // namespace

void describe(Fields& f, NvlinkSpec& nvlink) {
  f.required("bandwidth", nvlink.bandwidth, "line rate per GPU and direction", kLinkRate);
  f.required("latency", nvlink.latency, "end to end between two GPUs of a node", kLatency);
}

void describe(Fields& f, PcieSpec& pcie) {
  f.required("bandwidth", pcie.bandwidth, "per GPU and direction; caps what its NICs can take",
             kLinkRate);
}

void describe(Fields& f, NicSpec& nic) {
  f.required("per_gpu", nic.per_gpu, "ports per GPU", {.low = 1, .high = 64});
  f.required("bandwidth", nic.bandwidth, "line rate of one port and direction", kLinkRate);
  f.required("latency", nic.latency, "end to end between two GPUs below one leaf switch", kLatency);
  f.optional("message_share", nic.message_share,
             "part of a port that a pipeline message gets at least beside an all-to-all; it gets "
             "all that the all-to-all leaves",
             {.low = 1e-3, .high = 1});
}

void describe(Fields& f, FabricSpec& fabric) {
  f.choice("topology", fabric.topology, words(topologies()), "how switches connect");
  f.required("planes", fabric.planes,
             "separate networks, or rails; GPU i of every node is on plane (rail) i mod planes",
             at_least(1));
  f.required("switch_ports", fabric.switch_ports, "ports of a switch, each as fast as a NIC's",
             {.low = 2, .high = 65'536});
  f.required("oversubscription", fabric.oversubscription, "down-links over up-links of a leaf",
             {.low = 1, .high = 1'000});
  f.required("spine_latency", fabric.spine_latency,
             "what the way from leaf to spine to leaf adds to the NIC's latency; in a dragonfly, "
             "the way to another router of the group",
             kLatency);
  f.maybe("core_latency", fabric.core_latency,
          "what the way to another pod, or to another group of a dragonfly, adds instead",
          kLatency);
  f.optional_choice("routing", fabric.routing, {kRoutings.begin(), kRoutings.end()},
                    "how switches choose among ways of equal length");
  f.optional("routing_seed", fabric.routing_seed, "seed of ECMP's hash", at_least(0));
  f.maybe("failed", fabric.failed,
          "switches and cables that are down: p0.spine3, p0.leaf1.spine3, n2.nvswitch, n2g5.ib");
}

void describe(Fields& f, ClusterSpec& cluster) {
  f.required("nodes", cluster.nodes, "number of machines", at_least(1));
  f.required("gpus_per_node", cluster.gpus_per_node, "GPUs of a machine", at_least(1));
  f.required("gpu", cluster.gpu, "the GPUs");
  f.required("nvlink", cluster.nvlink, "links between the GPUs of a node");
  f.required("pcie", cluster.pcie, "links between GPU and NIC");
  f.required("nic", cluster.nic, "network ports");
  f.required("fabric", cluster.fabric, "the network between nodes");

  const double gpus = static_cast<double>(cluster.nodes) * cluster.gpus_per_node;
  f.check(gpus <= kMostGpus, "nodes", "{} nodes of {} GPUs are more than {} GPUs", cluster.nodes,
          cluster.gpus_per_node, kMostGpus);
  check_fabric(f, cluster);
}

}  // namespace pipecast::config
