#include "sim/network/topologies/wiring.hpp"

namespace pipecast {
namespace {

/// Where the global ports of a group lead: port q of group i is joined to group (i + o) mod groups,
/// o = offsets[q]; the other end is the port that `partners[q]` names.
struct GlobalPorts {
  std::vector<int> offsets;
  std::vector<std::size_t> partners;
};

/// An even share for every other group, then what is left for neighbours on the ring of groups
/// (offsets +1 and -1, then +2 and -2, ...) and at last for the opposite group.
GlobalPorts global_ports(int groups, std::int64_t ports) {
  GlobalPorts out;
  const int others = groups - 1;
  for (std::int64_t round = 0; round < ports / others; ++round) {
    const std::size_t first = out.offsets.size();
    for (int offset = 1; offset <= others; ++offset) {
      out.offsets.push_back(offset);
      out.partners.push_back(first + static_cast<std::size_t>(groups - offset - 1));
    }
  }
  const auto left = static_cast<int>(ports % others);
  for (int pair = 1; pair <= left / 2; ++pair) {
    const std::size_t first = out.offsets.size();
    out.offsets.insert(out.offsets.end(), {pair, groups - pair});
    out.partners.insert(out.partners.end(), {first + 1, first});
  }
  if (left % 2 == 1 && groups % 2 == 0) {
    out.partners.push_back(out.offsets.size());
    out.offsets.push_back(groups / 2);
  }
  return out;
}

using Group = std::vector<Vertex>;

void join_groups(FabricGraph& fabric, const std::vector<Group>& groups, int ports_per_router,
                 Duration latency) {
  const auto count = static_cast<int>(groups.size());
  const GlobalPorts ports =
      global_ports(count, static_cast<std::int64_t>(groups[0].size()) * ports_per_router);
  const auto router = [&](int group, std::size_t port) {
    return groups[static_cast<std::size_t>(group)]
                 [port / static_cast<std::size_t>(ports_per_router)];
  };
  for (int group = 0; group < count; ++group) {
    for (std::size_t port = 0; port < ports.offsets.size(); ++port) {
      const int other = (group + ports.offsets[port]) % count;
      // Every cable is seen from both of its ends.
      if (other > group)
        fabric.join(router(group, port), router(other, ports.partners[port]), latency);
    }
  }
}

void build_plane(FabricGraph& fabric, const ClusterSpec& cluster, const FabricShape& shape,
                 int plane) {
  std::vector<Group> groups;
  std::vector<Vertex> all;
  for (int g = 0; g < shape.pods; ++g) {
    Group& routers = groups.emplace_back();
    for (int i = 0; i < shape.leaves_per_pod; ++i) {
      routers.push_back(fabric.add_switch(plane, fmt::format("group{}.router{}", g, i)));
      for (int j = 0; j < i; ++j)
        fabric.join(routers[static_cast<std::size_t>(j)], routers.back(),
                    cluster.fabric.spine_latency);
    }
    all.insert(all.end(), routers.begin(), routers.end());
  }
  // The longest way between groups takes a detour in each.
  const Duration global = cluster.fabric.core_latency - 2 * cluster.fabric.spine_latency;
  if (shape.pods > 1) join_groups(fabric, groups, shape.global_links, global);
  plug_in_nodes(fabric, cluster, shape, all, plane, shape.planes);
}

void build(FabricGraph& fabric, const ClusterSpec& cluster) {
  const FabricShape shape = fabric_shape(cluster);
  for (int plane = 0; plane < shape.planes; ++plane) build_plane(fabric, cluster, shape, plane);
}

const Register<TopologyKind> kEntry{"dragonfly", {build}};

}  // namespace
}  // namespace pipecast
