#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>

#include "sim/engine/statistics.hpp"

using namespace pipecast;

TEST_CASE("a summary of nothing has no least, mean or greatest", "[engine]") {
  const Summary summary;
  REQUIRE(summary.count() == 0);
  REQUIRE_FALSE(summary.least());
  REQUIRE_FALSE(summary.mean());
  REQUIRE_FALSE(summary.greatest());
}

TEST_CASE("a summary is exact beyond 64 bits", "[engine]") {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  Summary summary;
  for (int i = 0; i < 4; ++i) summary.add(kMost);
  REQUIRE(summary.mean() == static_cast<double>(kMost));
  summary.add(-kMost);
  REQUIRE(summary.least() == -kMost);
  REQUIRE(summary.greatest() == kMost);
  REQUIRE(summary.mean() == static_cast<double>(kMost) * 3 / 5);
}

TEST_CASE("a time-weighted mean weighs each level with how long it lasts", "[engine]") {
  TimeWeighted queue;
  queue.set(Time(10), 4);  // 0 until here
  queue.set(Time(30), 1);
  queue.set(Time(30), 2);  // a level of no length has no weight
  REQUIRE(queue.mean(Time(30)) == 4.0 * 20 / 30);
  REQUIRE(queue.mean(Time(40)) == (4.0 * 20 + 2.0 * 10) / 40);
  REQUIRE(queue.value() == 2);
  REQUIRE(queue.greatest() == 4);
  REQUIRE(TimeWeighted{}.mean(Time{}) == 0);
}

TEST_CASE("a busy fraction is busy over span, and 0 of nothing", "[engine]") {
  REQUIRE(busy_fraction(Duration(25), Duration(100)) == 0.25);
  REQUIRE(busy_fraction(Duration(0), Duration(0)) == 0);
}
