#include <algorithm>
#include <catch2/catch.hpp>

#include "fabrics.hpp"
#include "sim/network/fabric_slowdown.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// 256 nodes on one plane of 64-port switches: eight leaves of 32 nodes, as each of DeepSeek's.
ClusterSpec eight_leaves(FabricRouting routing) {
  ClusterSpec cluster = round_cluster();
  cluster.nodes = 256;
  cluster.gpus_per_node = 1;
  cluster.fabric.planes = 1;
  cluster.fabric.switch_ports = 64;
  cluster.fabric.routing = routing;
  return cluster;
}

/// Groups of eight nodes: neighbours, or one node below each leaf.
std::vector<std::vector<int>> groups(bool spread) {
  std::vector<std::vector<int>> out(32);
  for (int node = 0; node < 256; ++node) {
    out[static_cast<std::size_t>(spread ? node % 32 : node / 8)].push_back(node);
  }
  return out;
}

double worst(const ClusterSpec& cluster, bool spread) {
  const std::vector<double> all = fabric_slowdown(cluster, groups(spread));
  return *std::max_element(all.begin(), all.end());
}

}  // namespace

TEST_CASE("groups below one leaf never touch the spine", "[slowdown]") {
  const auto routing =
      GENERATE(FabricRouting::kStatic, FabricRouting::kEcmp, FabricRouting::kAdaptive);
  for (const double slowdown : fabric_slowdown(eight_leaves(routing), groups(false))) {
    REQUIRE(slowdown == 1);
  }
}

TEST_CASE("adaptive routing on a non-blocking fabric costs nothing", "[slowdown]") {
  for (const double slowdown :
       fabric_slowdown(eight_leaves(FabricRouting::kAdaptive), groups(true))) {
    REQUIRE(slowdown == 1);
  }
}

TEST_CASE("static routing deals a balanced exchange out without collisions", "[slowdown]") {
  REQUIRE(worst(eight_leaves(FabricRouting::kStatic), true) == Approx(1));
}

TEST_CASE("ECMP on groups spread over eight leaves takes more than twice as long", "[slowdown]") {
  // Measured with SimGrid: 2.3 times. By load: 224 flows of a leaf's 32 NICs fall on 32 up-links at
  // random, 7 each in the mean; the most of 512 such (Poisson) links, up and down, is 15 to 17.
  double sum = 0;
  const int seeds = 3;
  for (int seed = 0; seed < seeds; ++seed) {
    ClusterSpec cluster = eight_leaves(FabricRouting::kEcmp);
    cluster.fabric.routing_seed = seed;
    sum += worst(cluster, true);
  }
  REQUIRE(sum / seeds == Approx(2.3).epsilon(0.1));
}

TEST_CASE("oversubscription slows a spread exchange down by as much", "[slowdown]") {
  // 48 NICs of a leaf share 16 up-links; groups of one node below each of six leaves.
  ClusterSpec cluster = eight_leaves(FabricRouting::kStatic);
  cluster.fabric.oversubscription = 3;
  cluster.nodes = 6 * 48;
  std::vector<std::vector<int>> spread(48);
  for (int node = 0; node < cluster.nodes; ++node) {
    spread[static_cast<std::size_t>(node % 48)].push_back(node);
  }
  for (const double slowdown : fabric_slowdown(cluster, spread)) {
    REQUIRE(slowdown == Approx(3).epsilon(1e-6));
  }
}

TEST_CASE("a group with a failed NIC waits for the neighbour that takes over", "[slowdown]") {
  ClusterSpec cluster = small_fabric("multi-plane-fat-tree", 4);  // one leaf per plane
  cluster.fabric.failed = {"n0g0.ib"};
  // GPU 0 of node 0 sends and receives through the port of GPU 1, which has its own traffic: twice
  // the bytes.
  REQUIRE(fabric_slowdown(cluster, {{0, 1, 2, 3}}).front() == Approx(2));
}
