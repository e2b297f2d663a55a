#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/collectives/links.hpp"
#include "model/collectives/reduction.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

Duration time_of(Bytes size, const GroupShape& group) {
  return reduction_time(size, group, round_cluster(), ideal_calibration());
}

constexpr Duration kNvlinkHop = microseconds(1);
constexpr Duration kFabricHop = microseconds(3 + 2);  // below one leaf, and through a spine

}  // namespace

TEST_CASE("a GPU alone has nothing to reduce with", "[collectives]") {
  REQUIRE(time_of(Bytes(1'000'000), {.nodes = 1, .gpus_per_node = 1}) == Duration());
}

TEST_CASE("nothing to reduce takes no time", "[collectives]") {
  REQUIRE(time_of(Bytes(0), {.nodes = 8, .gpus_per_node = 8}) == Duration());
}

TEST_CASE("a ring of n sends (n-1)/n of the data in n-1 hops", "[collectives]") {
  const int n = GENERATE(2, 4, 8);
  const std::int64_t size = 8'000'000'000;  // a multiple of every n: no remainder to round
  CAPTURE(n);
  REQUIRE(time_of(Bytes(size), {.nodes = 1, .gpus_per_node = n}) ==
          Bytes(size * (n - 1) / n) / Bandwidth(160e9) + (n - 1) * kNvlinkHop);
  REQUIRE(time_of(Bytes(size), {.nodes = n, .gpus_per_node = 1}) ==
          Bytes(size * (n - 1) / n) / Bandwidth(50e9) + (n - 1) * kFabricHop);
}

TEST_CASE("across nodes every GPU reduces the share that its node left it", "[collectives]") {
  const ReductionLoad load = reduction_load(Bytes(6400), {.nodes = 4, .gpus_per_node = 8});
  REQUIRE(load.nvlink == Bytes(6400 * 7 / 8));
  REQUIRE(load.nic == Bytes(6400 / 8 * 3 / 4));
}

TEST_CASE("a two-level ring sends (n-1)/n in all, as a flat one does", "[collectives][property]") {
  const int nodes = GENERATE(1, 2, 16);
  const int per_node = GENERATE(1, 2, 8);
  const std::int64_t size = 12'800;
  const ReductionLoad load = reduction_load(Bytes(size), {nodes, per_node});
  const int n = nodes * per_node;
  // size (g-1)/g + size/g (k-1)/k = size (gk-1)/(gk)
  REQUIRE(load.nvlink + load.nic == Bytes(size * (n - 1) / n));
}

TEST_CASE("reductions grow with size and with members", "[collectives][property]") {
  const int nodes = GENERATE(1, 2, 7);
  const int per_node = GENERATE(1, 3, 8);
  const Bytes size(GENERATE(take(10, random(1'000'000, 1'000'000'000))));
  CAPTURE(nodes, per_node, size.count());
  const Duration base = time_of(size, {nodes, per_node});
  REQUIRE(time_of(2 * size, {nodes, per_node}) >= base);
  REQUIRE(time_of(size, {nodes + 1, per_node}) > base);
}
