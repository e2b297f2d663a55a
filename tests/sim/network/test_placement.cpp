#include <catch2/catch.hpp>

#include "machines.hpp"
#include "sim/network/placement.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// Eight nodes of eight GPUs; a leaf of eight ports has four down-links, so four nodes.
Placement placement(int data_parallel, double oversubscription = 1) {
  ClusterSpec cluster = round_cluster();
  cluster.fabric.oversubscription = oversubscription;
  return {cluster, data_parallel};
}

}  // namespace

TEST_CASE("replicas of a pipeline rank fill nodes side by side", "[placement]") {
  const Placement p = placement(16);  // four pipeline ranks of two nodes each
  REQUIRE(p.node(0, 0) == 0);
  REQUIRE(p.node(0, 7) == 0);
  REQUIRE(p.node(0, 8) == 1);
  REQUIRE(p.node(3, 15) == 7);
}

TEST_CASE("pipeline ranks that share a node or a leaf are near each other", "[placement]") {
  const Placement small = placement(4);  // two pipeline ranks in every node
  REQUIRE(small.between(0, 1, 0).same_node);
  REQUIRE_FALSE(small.between(1, 2, 0).same_node);
  REQUIRE(small.between(1, 2, 0).same_leaf);

  const Placement large = placement(16);  // nodes 0-3 below the first leaf, 4-7 below the second
  REQUIRE(large.between(0, 1, 0).same_leaf);
  REQUIRE_FALSE(large.between(0, 1, 0).same_node);
  REQUIRE_FALSE(large.between(1, 2, 0).same_leaf);
}

TEST_CASE("an oversubscribed leaf has more nodes below it", "[placement]") {
  // Three down-links to one up-link: six of eight ports, so rank 2's first node, 4, is below the
  // first leaf and rank 3's, 6, is not.
  const Placement p = placement(16, 3);
  REQUIRE(p.between(1, 2, 0).same_leaf);
  REQUIRE_FALSE(p.between(2, 3, 0).same_leaf);
}

TEST_CASE("a node with two ports on a leaf takes two of its down-links", "[placement]") {
  ClusterSpec cluster = round_cluster();
  cluster.fabric.planes = 4;  // GPU i and i + 4 share a leaf: two nodes of its four ports
  const Placement p(cluster, 8);
  REQUIRE(p.between(0, 1, 0).same_leaf);
  REQUIRE_FALSE(p.between(1, 2, 0).same_leaf);
}

TEST_CASE("pods end where their leaves do", "[placement]") {
  ClusterSpec cluster = round_cluster();
  cluster.nodes = 32;  // eight leaves of four nodes
  cluster.fabric.topology = GENERATE("multi-plane-fat-tree", "three-layer-fat-tree");
  CAPTURE(cluster.fabric.topology);
  const Placement p(cluster, 8);  // one node per pipeline rank
  REQUIRE(p.between(0, 15, 0).same_pod);
  // A pod of 8-port switches has four leaves, so 16 nodes; a plane of two layers is one pod.
  REQUIRE(p.between(15, 16, 0).same_pod == (cluster.fabric.topology == "multi-plane-fat-tree"));
}

TEST_CASE("a rank is at no distance from itself", "[placement]") {
  const Distance d = placement(16).between(2, 2, 5);
  REQUIRE(d.same_node);
  REQUIRE(d.same_leaf);
}

TEST_CASE("a group of neighbours fills its nodes", "[placement]") {
  const GroupShape all = placement(16).group(2, 1);
  REQUIRE(all.gpus_per_node == 8);
  REQUIRE(all.nodes == 2 * 2);
}

TEST_CASE("a group with a stride keeps its share of every node", "[placement]") {
  const GroupShape half = placement(16).group(1, 2);  // replicas 0, 2, 4, ...: four on each node
  REQUIRE(half.gpus_per_node == 4);
  REQUIRE(half.nodes == 2);
  const GroupShape one = placement(32).group(2, 8);
  REQUIRE(one.gpus_per_node == 1);
  REQUIRE(one.nodes == 2 * 4);
  const GroupShape far = placement(32).group(2, 16);  // two replicas, on nodes 0 and 2
  REQUIRE(far.gpus_per_node == 1);
  REQUIRE(far.nodes == 2 * 2);
}

TEST_CASE("every group has all its members", "[placement][property]") {
  const int data_parallel = GENERATE(1, 2, 4, 8, 16, 32);
  const int holders = GENERATE(1, 2);
  const int stride = GENERATE(1, 2, 4, 8, 16, 32);
  if (stride > data_parallel) return;
  CAPTURE(data_parallel, holders, stride);
  REQUIRE(placement(data_parallel).group(holders, stride).gpus() ==
          holders * data_parallel / stride);
}
