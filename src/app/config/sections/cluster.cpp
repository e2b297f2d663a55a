#include <cmath>

#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

constexpr double kMostGpus = 1'000'000;  // ten times the largest cluster built so far

/// NICs that one plane of a two-layer fat tree of switches with k ports connects: every leaf gives
/// k * o / (1 + o) ports to NICs (o: oversubscription), and a spine switch reaches k leaves.
double nics_per_plane(const FabricSpec& fabric) {
  const double o = fabric.oversubscription;
  return std::floor(fabric.switch_ports * o / (1 + o)) * fabric.switch_ports;
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
  f.choice("topology", fabric.topology, words({"multi-plane-fat-tree"}), "how switches connect");
  f.required("planes", fabric.planes,
             "separate fat trees of two layers; GPU i of every node is on plane i mod planes",
             at_least(1));
  f.required("switch_ports", fabric.switch_ports, "ports of a switch, each as fast as a NIC's",
             {.low = 2, .high = 65'536});
  f.required("oversubscription", fabric.oversubscription, "down-links over up-links of a leaf",
             {.low = 1, .high = 1'000});
  f.required("spine_latency", fabric.spine_latency,
             "what the way from leaf to spine to leaf adds to the NIC's latency", kLatency);
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
  const FabricSpec& fabric = cluster.fabric;
  f.check(fabric.planes > 0 && cluster.gpus_per_node % fabric.planes == 0, "fabric.planes",
          "{} planes do not divide the {} GPUs of a node", fabric.planes, cluster.gpus_per_node);
  const double nics = gpus * cluster.nic.per_gpu / std::max(fabric.planes, 1);
  f.check(nics <= nics_per_plane(fabric), "fabric.switch_ports",
          "{} nodes put {} ports on each of {} planes; two layers of {}-port switches connect {}",
          cluster.nodes, nics, fabric.planes, fabric.switch_ports, nics_per_plane(fabric));
}

}  // namespace pipecast::config
