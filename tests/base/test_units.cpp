#include <catch2/catch.hpp>

#include "base/units.hpp"

using namespace pipecast;

TEST_CASE("work over rate rounds up, so positive work takes time", "[base]") {
  REQUIRE((Bytes(0) / Bandwidth(1e9)).count() == 0);
  REQUIRE((Bytes(1) / Bandwidth(1e9)).count() == 1'000);
  REQUIRE((Bytes(1) / Bandwidth(3e12)).count() == 1);  // a third of a picosecond
  REQUIRE((Flops(1) / FlopRate(1e15)).count() == 1);
}

TEST_CASE("clock cycles are computed from their number and never drift", "[base]") {
  constexpr std::int64_t kClock = 1'830'000'000;  // 546.448... ps a cycle
  REQUIRE(cycle_start(0, kClock).count() == 0);
  REQUIRE(cycle_start(1, kClock).count() == 546);
  REQUIRE(cycle_start(kClock, kClock) == Time() + seconds(1));
  REQUIRE(cycle_start(1'000 * kClock, kClock) == Time() + seconds(1'000));
}

TEST_CASE("points and spans of time subtract and add", "[base]") {
  const Time t = Time() + microseconds(3);
  REQUIRE(t - Time() == nanoseconds(3'000));
  REQUIRE(t - nanoseconds(1) < t);
  REQUIRE(to_seconds(seconds(2)) == 2.0);
  REQUIRE(to_microseconds(milliseconds(1)) == 1'000.0);
}

TEST_CASE("ceil_div rounds up", "[base]") {
  REQUIRE(ceil_div(0, 4) == 0);
  REQUIRE(ceil_div(1, 4) == 1);
  REQUIRE(ceil_div(4, 4) == 1);
  REQUIRE(ceil_div(5, 4) == 2);
}
