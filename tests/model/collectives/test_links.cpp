#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/collectives/links.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("a message's latency is that of the hops between its ends", "[collectives]") {
  const ClusterSpec cluster = round_cluster();
  REQUIRE(hop_latency({.same_node = true, .same_leaf = true}, cluster) == microseconds(1));
  REQUIRE(hop_latency({.same_node = false, .same_leaf = true}, cluster) == microseconds(3));
  REQUIRE(hop_latency({}, cluster) == microseconds(3 + 2));
}

TEST_CASE("a message takes its bytes over what it reaches of its link", "[collectives]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.link.nvlink.value = 0.5;
  calibration.link.nic.value = 0.8;
  const Bytes size(40'000'000'000);
  REQUIRE(transfer_time(size, {.same_node = true}, round_cluster(), calibration) ==
          size / Bandwidth(160e9 * 0.5));
  REQUIRE(transfer_time(size, {.same_leaf = true}, round_cluster(), calibration) ==
          size / Bandwidth(50e9 * 0.8));
}
