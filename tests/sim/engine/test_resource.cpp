#include <catch2/catch.hpp>

#include "sim/engine/resource.hpp"

using namespace pipecast;

TEST_CASE("a request before the server is free waits, one at that instant does not", "[engine]") {
  FifoServer server;
  REQUIRE(server.reserve(Time(100), Duration(50)) == Time(150));
  REQUIRE(server.waited() == Duration(0));
  SECTION("at t-1 ps it waits 1 ps") {
    REQUIRE(server.reserve(Time(149), Duration(10)) == Time(160));
    REQUIRE(server.waited() == Duration(1));
  }
  SECTION("at t it starts at once") {
    REQUIRE(server.reserve(Time(150), Duration(10)) == Time(160));
    REQUIRE(server.waited() == Duration(0));
  }
  SECTION("after an idle time it starts when it asks") {
    REQUIRE(server.reserve(Time(170), Duration(10)) == Time(180));
    REQUIRE(server.waited() == Duration(0));
  }
  REQUIRE(server.busy() == Duration(50 + 10));
  REQUIRE(server.served() == 2);
}

TEST_CASE("requests at one instant are served one after the other, first come first", "[engine]") {
  FifoServer server;
  for (int i = 1; i <= 5; ++i) {
    REQUIRE(server.reserve(Time(0), Duration(7)) == Time(7 * i));
  }
  REQUIRE(server.free_at() == Time(35));
  REQUIRE(server.waited() == Duration(7 * (0 + 1 + 2 + 3 + 4)));
}

TEST_CASE("a service of no length takes no time but waits its turn", "[engine]") {
  FifoServer server;
  server.reserve(Time(0), Duration(10));
  REQUIRE(server.reserve(Time(3), Duration(0)) == Time(10));
  REQUIRE(server.busy() == Duration(10));
}
