#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "fabrics.hpp"
#include "sim/network/plan_builder.hpp"
#include "sim/network/transfers.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

std::vector<Transfer> transfers_of(const std::string& kind, const CollectiveShape& shape) {
  return Registry<CollectiveKind>::instance().find(kind).make(shape);
}

/// Bytes out of and into every member over NVLink (the same node) and over the NIC.
struct Volume {
  std::int64_t nvlink = 0;
  std::int64_t nic = 0;
  bool operator==(const Volume&) const = default;
};

std::vector<Volume> volumes(const std::vector<Transfer>& transfers, const CollectiveShape& shape,
                            int Transfer::*end) {
  std::vector<Volume> out(static_cast<std::size_t>(shape.members));
  for (const Transfer& t : transfers) {
    Volume& volume = out[static_cast<std::size_t>(t.*end)];
    const bool local = t.from / shape.gpus_per_node == t.to / shape.gpus_per_node;
    (local ? volume.nvlink : volume.nic) += t.bytes.count();
  }
  return out;
}

/// Completes one collective on a fabric with nothing else on it.
double time_alone(const ClusterSpec& cluster, const std::vector<Transfer>& transfers,
                  std::vector<int> gpus) {
  const FabricGraph fabric = build_fabric(cluster);
  PlanBuilder builder(fabric, FabricRouting::kAdaptive, 0);
  builder.add({.name = "it", .transfers = transfers, .gpus = std::move(gpus)});
  return complete_transfers(builder.plan()).makespan_s;
}

std::vector<int> first_gpus(int count) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(i);
  return out;
}

constexpr double kNic = 50e9;      // of round_cluster()
constexpr double kNvlink = 160e9;  // the same
constexpr double kNicLatency = 3e-6;
constexpr double kNvlinkLatency = 1e-6;
// Completion times are doubles made of some hundred additions.
constexpr double kRounding = 1e-9;

/// One GPU of every node, all on plane 0 below one leaf.
std::vector<int> one_per_node(int nodes) {
  std::vector<int> out;
  for (int node = 0; node < nodes; ++node) out.push_back(node * 8);
  return out;
}

ClusterSpec one_leaf() {
  ClusterSpec cluster = round_cluster();
  cluster.fabric.switch_ports = 16;
  return cluster;
}

/// Tokens to every GPU and node, all different, so that no mistake cancels out.
CollectiveShape uneven_exchange(int nodes, int gpus_per_node, int chunks) {
  CollectiveShape shape{.members = nodes * gpus_per_node,
                        .gpus_per_node = gpus_per_node,
                        .bytes = Bytes(7392),
                        .chunks = chunks};
  for (int source = 0; source < shape.members; ++source) {
    auto& gpus = shape.tokens.to_gpu.emplace_back();
    auto& to_nodes = shape.tokens.to_node.emplace_back();
    for (int to = 0; to < shape.members; ++to) gpus.push_back(100 + 7 * source + 3 * to);
    for (int node = 0; node < nodes; ++node) to_nodes.push_back(200 + 5 * source + 11 * node);
  }
  return shape;
}

}  // namespace

TEST_CASE("the collectives are these", "[collective]") {
  REQUIRE(Registry<CollectiveKind>::instance().names() ==
          std::vector<std::string>{
              "combine", "dispatch", "hierarchical-all-gather", "hierarchical-all-reduce",
              "hierarchical-reduce-scatter", "point-to-point", "ring-all-gather", "ring-all-reduce",
              "ring-reduce-scatter", "tree-all-gather", "tree-all-reduce", "tree-reduce-scatter"});
}

TEST_CASE("everyone hears of everyone through what its transfers wait for",
          "[collective][property]") {
  const std::string kind =
      GENERATE("hierarchical-all-gather", "hierarchical-all-reduce", "hierarchical-reduce-scatter",
               "ring-all-gather", "ring-all-reduce", "ring-reduce-scatter", "tree-all-gather",
               "tree-all-reduce", "tree-reduce-scatter");
  const int members = GENERATE(1, 2, 4, 8, 16);
  const int gpus_per_node = GENERATE(1, 2, 4);
  if (members % gpus_per_node != 0) return;
  CAPTURE(kind, members, gpus_per_node);
  const auto transfers = transfers_of(
      kind, {.members = members, .gpus_per_node = gpus_per_node, .bytes = Bytes(1600)});
  std::vector<std::set<int>> carried;
  std::vector<std::set<int>> heard(static_cast<std::size_t>(members));
  for (int i = 0; i < members; ++i) heard[static_cast<std::size_t>(i)] = {i};
  for (const Transfer& t : transfers) {
    std::set<int>& now = carried.emplace_back();
    now.insert(t.from);
    for (const int earlier : t.after) {
      const auto index = static_cast<std::size_t>(earlier);
      REQUIRE(index + 1 < carried.size());  // no cycle
      if (transfers[index].to == t.from || transfers[index].from == t.from)
        now.insert(carried[index].begin(), carried[index].end());
    }
    heard[static_cast<std::size_t>(t.to)].insert(now.begin(), now.end());
  }
  for (const auto& set : heard) REQUIRE(set.size() == static_cast<std::size_t>(members));
}

TEST_CASE("rings and halvings move the smallest volume there is", "[collective][property]") {
  const int members = GENERATE(1, 2, 4, 8);
  const std::string family = GENERATE("ring", "tree");
  CAPTURE(members, family);
  const CollectiveShape shape{.members = members, .bytes = Bytes(8000)};
  const std::int64_t once = 8000 / members * (members - 1);  // (n-1)/n of the buffer
  const auto all = [&](const std::string& name, int Transfer::*end) {
    return volumes(transfers_of(name, shape), shape, end);
  };
  for (int Transfer::*end : {&Transfer::from, &Transfer::to}) {
    for (const Volume& v : all(family + "-reduce-scatter", end)) REQUIRE(v.nic == once);
    for (const Volume& v : all(family + "-all-gather", end)) REQUIRE(v.nic == once);
    if (family == "ring") {
      for (const Volume& v : all("ring-all-reduce", end)) REQUIRE(v.nic == 2 * once);
    }
  }
}

TEST_CASE("a ring moves buffers that its members do not divide, to the byte", "[collective]") {
  const CollectiveShape shape{.members = 7, .bytes = Bytes(1003)};
  std::int64_t sum = 0;
  for (const Transfer& t : transfers_of("ring-reduce-scatter", shape)) sum += t.bytes.count();
  REQUIRE(sum == 6 * 1003);  // in every step the parts on their way make up one buffer
}

TEST_CASE("a hierarchical collective sends 1/g of the buffer through each NIC",
          "[collective][property]") {
  const int nodes = GENERATE(1, 2, 4);
  const int g = GENERATE(1, 2, 4);
  CAPTURE(nodes, g);
  const CollectiveShape shape{.members = nodes * g, .gpus_per_node = g, .bytes = Bytes(16'000)};
  const Volume once{.nvlink = 16'000 / g * (g - 1), .nic = 16'000 / g / nodes * (nodes - 1)};
  for (int Transfer::*end : {&Transfer::from, &Transfer::to}) {
    for (const std::string kind : {"hierarchical-reduce-scatter", "hierarchical-all-gather"}) {
      for (const Volume& v : volumes(transfers_of(kind, shape), shape, end)) REQUIRE(v == once);
    }
    for (const Volume& v : volumes(transfers_of("hierarchical-all-reduce", shape), shape, end)) {
      REQUIRE(v == Volume{.nvlink = 2 * once.nvlink, .nic = 2 * once.nic});
    }
  }
}

TEST_CASE("a tree's all-reduce sends the buffer up once and down once", "[collective]") {
  const int members = GENERATE(1, 2, 3, 5, 8, 13);
  const CollectiveShape shape{.members = members, .bytes = Bytes(100)};
  const auto transfers = transfers_of("tree-all-reduce", shape);
  REQUIRE(transfers.size() == static_cast<std::size_t>(2 * (members - 1)));
  for (const Transfer& t : transfers) REQUIRE(t.bytes == Bytes(100));
}

TEST_CASE("a dispatch crosses once per node and goes on to every GPU", "[collective][property]") {
  const int nodes = GENERATE(1, 2, 3);
  const int g = GENERATE(1, 4);
  const int chunks = GENERATE(0, 1, 3);
  CAPTURE(nodes, g, chunks);
  const CollectiveShape shape = uneven_exchange(nodes, g, chunks);
  const auto transfers = transfers_of("dispatch", shape);
  const auto sent = volumes(transfers, shape, &Transfer::from);
  const auto received = volumes(transfers, shape, &Transfer::to);
  for (int gpu = 0; gpu < shape.members; ++gpu) {
    const auto at = static_cast<std::size_t>(gpu);
    std::int64_t remote = 0;
    for (int node = 0; node < nodes; ++node) {
      if (node != gpu / g) remote += shape.tokens.to_node[at][static_cast<std::size_t>(node)];
    }
    std::int64_t forwarded = 0;  // to this GPU by the others of its node
    for (int source = 0; source < shape.members; ++source) {
      if (source % g != gpu % g)
        forwarded += shape.tokens.to_gpu[static_cast<std::size_t>(source)][at];
    }
    REQUIRE(sent[at].nic == remote * 7392);
    REQUIRE(received[at].nvlink == forwarded * 7392);
  }
  // A combine is the same backwards.
  const auto back = transfers_of("combine", shape);
  REQUIRE(volumes(back, shape, &Transfer::to) == sent);
  REQUIRE(volumes(back, shape, &Transfer::from) == received);
}

TEST_CASE("balanced counts carry each token to its nodes and GPUs", "[collective]") {
  const TokenMatrix counts = balanced_counts(64, 8, 4096, 4, 7);
  std::int64_t nodes = 0;
  std::int64_t gpus = 0;
  for (const std::int64_t count : counts.to_node[5]) nodes += count;
  for (const std::int64_t count : counts.to_gpu[5]) gpus += count;
  REQUIRE(nodes == 4096 * 4);
  REQUIRE(gpus == 4096 * 7);
  REQUIRE_THROWS_WITH(balanced_counts(64, 8, 1, 9, 9),
                      "tokens go to 9 nodes each; expected more than 0 and at most the 8 of the "
                      "group");
  REQUIRE_THROWS_WITH(balanced_counts(64, 8, 1, 4, 3),
                      "tokens go to 3 GPUs each; expected at least their 4 nodes and at most the "
                      "64 of the group");
  REQUIRE_THROWS_WITH(balanced_counts(12, 8, 1, 1, 1),
                      "an all-to-all of 12 GPUs, 8 on a node: the one has to divide the other");
}

TEST_CASE("shapes that a collective cannot have are refused", "[collective]") {
  REQUIRE_THROWS_WITH(transfers_of("point-to-point", {.members = 3}),
                      "point-to-point: 3 GPUs; expected a sender and a receiver");
  REQUIRE_THROWS_WITH(transfers_of("tree-all-gather", {.members = 6}),
                      "tree-all-gather: 6 GPUs are no power of two, which its halving needs");
  REQUIRE_THROWS_WITH(transfers_of("hierarchical-all-gather", {.members = 6, .gpus_per_node = 4}),
                      "a hierarchical collective of 6 GPUs: no whole number of nodes of 4");
  REQUIRE_THROWS_WITH(transfers_of("dispatch", {.members = 2, .gpus_per_node = 1}),
                      "all-to-all: tokens to GPUs are no 2 times 2 counts from 0 on");
}

TEST_CASE("one message takes its bytes over the slowest link and its latency", "[collective]") {
  const auto message = transfers_of("point-to-point", {.members = 2, .bytes = Bytes(50'000'000)});
  REQUIRE(time_alone(one_leaf(), message, {0, 8}) == Approx(1e-3 + kNicLatency).epsilon(kRounding));
  REQUIRE(time_alone(one_leaf(), message, {0, 1}) ==
          Approx(50e6 / kNvlink + kNvlinkLatency).epsilon(kRounding));
}

TEST_CASE("a ring on an idle fabric takes its steps one after the other", "[collective]") {
  const int nodes = GENERATE(2, 4, 8);
  const auto transfers =
      transfers_of("ring-all-reduce", {.members = nodes, .bytes = Bytes(80'000'000)});
  const double step = 80e6 / nodes / kNic + kNicLatency;
  REQUIRE(time_alone(one_leaf(), transfers, one_per_node(nodes)) ==
          Approx(2 * (nodes - 1) * step).epsilon(kRounding));
}

TEST_CASE("a tree on an idle fabric takes two messages per level", "[collective]") {
  const auto transfers = transfers_of("tree-all-reduce", {.members = 8, .bytes = Bytes(5'000'000)});
  const double message = 5e6 / kNic + kNicLatency;
  REQUIRE(time_alone(one_leaf(), transfers, one_per_node(8)) ==
          Approx(2 * 3 * message).epsilon(kRounding));
}

TEST_CASE("a hierarchical all-reduce takes its rings one after the other", "[collective]") {
  const auto transfers = transfers_of(
      "hierarchical-all-reduce", {.members = 32, .gpus_per_node = 8, .bytes = Bytes(64'000'000)});
  const double inside = 7 * (64e6 / 8 / kNvlink + kNvlinkLatency);
  const double across = 3 * (64e6 / 8 / 4 / kNic + kNicLatency);
  REQUIRE(time_alone(one_leaf(), transfers, first_gpus(32)) ==
          Approx(2 * (inside + across)).epsilon(kRounding));
}

TEST_CASE("a balanced dispatch takes the busiest port and its latency", "[collective]") {
  CollectiveShape shape{.members = 64, .gpus_per_node = 8, .bytes = Bytes(7392)};
  shape.tokens = balanced_counts(64, 8, 4096, 4, 7);
  const double nic = 7 * 4096 * 4. / 8 * 7392 / kNic;
  const double nvlink = 7 * 4096 * 7. / 64 * 8 * 7392 / kNvlink;
  REQUIRE(nic > nvlink);
  REQUIRE(time_alone(one_leaf(), transfers_of("dispatch", shape), first_gpus(64)) ==
          Approx(nic + kNicLatency).epsilon(kRounding));
}

TEST_CASE("handing over in more chunks hides more of the faster level", "[collective]") {
  const std::string kind = GENERATE("dispatch", "combine");
  CollectiveShape shape{.members = 32, .gpus_per_node = 8, .bytes = Bytes(7392)};
  shape.tokens = balanced_counts(32, 8, 4096, 4, 7);
  const double nic = 3 * 4096 * 7392 / kNic;
  const double nvlink = 7 * 4096 * 7. / 32 * 4 * 7392 / kNvlink;
  double before = 1;
  for (const int chunks : {1, 4, 16}) {
    CAPTURE(kind, chunks);
    shape.chunks = chunks;
    const double time = time_alone(one_leaf(), transfers_of(kind, shape), first_gpus(32));
    // The first chunk over one level, all over the slower one, the last over the other: latency of
    // each chunk besides.
    const double bound = std::max(nic, nvlink) + std::min(nic, nvlink) / chunks;
    REQUIRE(time >= std::max(nic, nvlink));
    REQUIRE(time <= bound + (chunks + 1) * (kNicLatency + kNvlinkLatency));
    REQUIRE(time < before);
    before = time;
  }
}

TEST_CASE("a collective waits for those that it comes after", "[collective]") {
  const FabricGraph fabric = build_fabric(one_leaf());
  PlanBuilder builder(fabric, FabricRouting::kAdaptive, 0);
  const auto message = transfers_of("point-to-point", {.members = 2, .bytes = Bytes(50'000'000)});
  builder.add({.name = "a", .transfers = message, .gpus = {0, 8}});
  builder.add({.name = "b", .transfers = message, .gpus = {0, 16}, .start_s = 5e-4});
  builder.add({.name = "c", .transfers = message, .gpus = {24, 32}, .after = {"a", "b"}});
  const Completion done = complete_transfers(builder.plan());
  REQUIRE(
      done.group_s[2] ==
      Approx(std::max(done.group_s[0], done.group_s[1]) + 1e-3 + kNicLatency).epsilon(kRounding));
}

TEST_CASE("a plan refuses names and GPUs that do not fit", "[collective]") {
  const FabricGraph fabric = build_fabric(one_leaf());
  PlanBuilder builder(fabric, FabricRouting::kAdaptive, 0);
  builder.add({.name = "a"});
  REQUIRE_THROWS_WITH(builder.add({.name = "a"}), "a: two collectives have this name");
  REQUIRE_THROWS_WITH(builder.add({.name = "b", .gpus = {64}}),
                      "b: there is no GPU 64; the cluster has 64, counted from 0");
  REQUIRE_THROWS_WITH(builder.add({.name = "c", .gpus = {3, 3}}), "c: GPU 3 stands twice");
  REQUIRE_THROWS_WITH(builder.add({.name = "d", .after = {"e"}}),
                      "d: waits for 'e', which is no collective before it");
}
