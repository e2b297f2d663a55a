#include "sim/network/topologies/fabric_graph.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/text.hpp"
#include "model/collectives/links.hpp"
#include "sim/network/topologies/wiring.hpp"

namespace pipecast {

namespace {

/// "p0.leaf1.spine3#2" without its last part: all cables of the bundle.
std::string bundle_of(const std::string& id) { return id.substr(0, id.find('#')); }

}  // namespace

FabricGraph::FabricGraph(const ClusterSpec& cluster)
    : cluster_(cluster), several_planes_(fabric_shape(cluster).planes > 1) {
  const Duration up = half(cluster.nvlink.latency);
  const Duration down = cluster.nvlink.latency - up;
  for (int node = 0; node < cluster.nodes; ++node) {
    const Vertex nvswitch = boost::add_vertex(
        {.kind = DeviceKind::kNvswitch, .name = fmt::format("n{}.nvswitch", node)}, graph);
    for (int i = 0; i < cluster.gpus_per_node; ++i) {
      const std::string name = fmt::format("n{}g{}", node, i);
      const Vertex gpu = boost::add_vertex({.kind = DeviceKind::kGpu, .name = name}, graph);
      gpus.push_back(gpu);
      add_link(gpu, nvswitch, name + ".nv.up", cluster.nvlink.bandwidth, up);
      add_link(nvswitch, gpu, name + ".nv.down", cluster.nvlink.bandwidth, down);
    }
  }
}

void FabricGraph::add_link(Vertex from, Vertex to, std::string id, Bandwidth bandwidth,
                           Duration latency) {
  boost::add_edge(from, to, Hop{static_cast<LinkIndex>(links.size())}, graph);
  links.push_back({.id = std::move(id), .bandwidth = bandwidth});
  latencies.push_back(latency);
}

Vertex FabricGraph::add_switch(int plane, std::string name) {
  return boost::add_vertex({.kind = DeviceKind::kSwitch, .plane = plane, .name = std::move(name)},
                           graph);
}

std::string FabricGraph::gpu_name(int gpu) const {
  return graph[gpus.at(static_cast<std::size_t>(gpu))].name;
}

std::string FabricGraph::switch_name(Vertex device) const {
  const Device& d = graph[device];
  return several_planes_ && d.kind == DeviceKind::kSwitch ? fmt::format("p{}.{}", d.plane, d.name)
                                                          : d.name;
}

void FabricGraph::join(Vertex lower, Vertex upper, Duration latency) {
  // Every further cable between the same two gets a number.
  int cables = 0;
  for (auto [edge, end] = boost::out_edges(lower, graph); edge != end; ++edge) {
    cables += boost::target(*edge, graph) == upper ? 1 : 0;
  }
  const std::string number = cables == 0 ? "" : fmt::format("#{}", cables);
  const auto add = [&](Vertex from, Vertex to) {
    add_link(from, to, fmt::format("{}.{}{}", switch_name(from), graph[to].name, number),
             cluster_.nic.bandwidth, latency);
  };
  add(lower, upper);
  add(upper, lower);
}

void FabricGraph::plug_in(int gpu, Vertex leaf) {
  const Vertex from = gpus.at(static_cast<std::size_t>(gpu));
  const Duration up = half(cluster_.nic.latency);
  const std::string& name = graph[from].name;
  add_link(from, leaf, name + ".ib.up", cluster_.nic_per_gpu(), up);
  add_link(leaf, from, name + ".ib.down", cluster_.nic_per_gpu(), cluster_.nic.latency - up);
}

void FabricGraph::fail(const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::map<std::string, Vertex> devices;
  for (auto [v, end] = boost::vertices(graph); v != end; ++v) devices.emplace(switch_name(*v), *v);
  // A cable goes by either direction's name, a bundle by that of its first cable, and the two
  // directions of a GPU's port also by what they have in common: n3g5.ib.
  std::map<std::string, std::set<std::pair<Vertex, Vertex>>> cables;
  for (auto [e, end] = boost::edges(graph); e != end; ++e) {
    const std::string& id = links[graph[*e].link].id;
    const Vertex a = boost::source(*e, graph);
    const Vertex b = boost::target(*e, graph);
    const std::pair ends(std::min(a, b), std::max(a, b));
    cables[bundle_of(id)].emplace(ends);
    if (id.find(".up") != std::string::npos) {
      cables[id.substr(0, id.find(".up"))].emplace(ends);
    }
  }
  for (const std::string& name : names) {
    if (const auto device = devices.find(name); device != devices.end()) {
      boost::clear_vertex(device->second, graph);
      continue;
    }
    const auto cable = cables.find(name);
    if (cable == cables.end()) {
      std::vector<std::string> known;
      for (const auto& [known_name, vertex] : devices) known.push_back(known_name);
      for (const auto& [known_name, ends] : cables) known.push_back(known_name);
      const std::string close = nearest(name, known);
      throw Error(fmt::format(
          "cluster.fabric.failed: there is no switch or cable '{}'{}", name,
          close.empty() ? "; such as p0.spine3 (a switch), p0.leaf1.spine3, n2g5.ib (cables)"
                        : fmt::format("; did you mean '{}'?", close)));
    }
    for (const auto& [a, b] : cable->second) {
      boost::remove_edge(a, b, graph);
      boost::remove_edge(b, a, graph);
    }
  }
}

FabricGraph build_fabric(const ClusterSpec& cluster) {
  FabricGraph fabric(cluster);
  Registry<TopologyKind>::instance().find(cluster.fabric.topology).build(fabric, cluster);
  fabric.fail(cluster.fabric.failed);
  return fabric;
}

Duration gpu_latency(const ClusterSpec& cluster, int from, int to) {
  if (from == to) return Duration();
  const FabricShape shape = fabric_shape(cluster);
  const int a = from / cluster.gpus_per_node;
  const int b = to / cluster.gpus_per_node;
  const int nodes_per_pod = shape.nodes_per_leaf * shape.leaves_per_pod;
  const int shares = cluster.fabric.planes;
  const bool same_leaf = a / shape.nodes_per_leaf == b / shape.nodes_per_leaf;
  // Another plane is reached by way of a neighbour over NVLink; so is another rail's leaf beside
  // this one.
  const bool forwarded = a != b && from % shares != to % shares && (shape.rails == 1 || same_leaf);
  const Distance distance{.same_node = a == b,
                          .same_leaf = same_leaf,
                          .same_pod = a / nodes_per_pod == b / nodes_per_pod};
  return hop_latency(distance, cluster) + (forwarded ? cluster.nvlink.latency : Duration());
}

}  // namespace pipecast
