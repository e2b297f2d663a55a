#include <algorithm>

#include "model/fabric/fabric_kind.hpp"

namespace pipecast {
namespace {

/// Ports of a router of k ports in the balanced dragonfly: h global ones, as many to NICs, and
/// 2 h - 1 to the other routers of its group, so 4 h - 1 <= k. Source: Kim et al. 2008,
/// section 3.1.
int global_ports(const FabricSpec& fabric) { return std::max(1, (fabric.switch_ports + 1) / 4); }

/// Groups of 2 h routers, joined all to all; every pair of groups is joined at least once. All
/// global ports are used as far as an even share per pair allows.
FabricShape shape(const ClusterSpec& cluster) {
  const int h = global_ports(cluster.fabric);
  const int routers = 2 * h;
  FabricShape s = leaves_for(cluster, h, cluster.fabric.planes, 1);
  s.leaves_per_pod = routers;
  s.pods = static_cast<int>(ceil_div(s.leaves, routers));
  if (s.pods == 1) {
    s.leaves_per_pod = s.leaves;
    s.local_links = s.leaves - 1;
    return s;
  }
  s.leaves = s.pods * routers;
  s.local_links = routers - 1;
  s.global_links = h;
  // What is left of a group's ports after an even share goes to its neighbours on a ring of groups,
  // two by two; an odd one joins opposite groups, which only an even number of groups has.
  const std::int64_t ports = std::int64_t{routers} * h;
  const std::int64_t left = ports % (s.pods - 1);
  const std::int64_t unused = left % 2 == 1 && s.pods % 2 == 1 ? 1 : 0;
  s.global_cables = (ports - unused) * s.pods / 2;
  return s;
}

/// One cable of each global port to another group.
std::int64_t most_leaves(const FabricSpec& fabric) {
  const std::int64_t h = global_ports(fabric);
  return 2 * h * (2 * h * h + 1);
}

double most_ports(const FabricSpec& fabric) {
  return static_cast<double>(most_leaves(fabric)) * global_ports(fabric);
}

const Register<FabricKind> kEntry{
    "dragonfly",
    {.shape = shape,
     .most_ports = most_ports,
     .most_leaves = most_leaves,
     .detours_between_pods = 2,
     .layers = "groups",
     .description = "groups of routers joined all to all, groups joined all to all"}};

}  // namespace
}  // namespace pipecast
