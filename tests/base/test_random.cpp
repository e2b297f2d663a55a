#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "base/random.hpp"

using namespace pipecast;

TEST_CASE("the same seed, purpose and index give the same numbers; any other give others",
          "[base]") {
  Random a(1, "routing", 2);
  Random b(1, "routing", 2);
  for (int i = 0; i < 100; ++i) REQUIRE(a.bits() == b.bits());
  REQUIRE(Random(1, "routing", 2).bits() != Random(2, "routing", 2).bits());
  REQUIRE(Random(1, "routing", 2).bits() != Random(1, "jitter", 2).bits());
  REQUIRE(Random(1, "routing", 2).bits() != Random(1, "routing", 3).bits());
}

TEST_CASE("uniform numbers fill [0, 1) evenly", "[base]") {
  Random random(7, "test");
  std::vector<int> bins(10);
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    ++bins[static_cast<std::size_t>(u * 10)];
  }
  // Binomial: mean 10,000, standard deviation 95; five of them.
  for (const int count : bins) REQUIRE(std::abs(count - kDraws / 10) < 475);
}

TEST_CASE("below stays below its bound and reaches every value", "[base]") {
  Random random(7, "test");
  std::vector<int> seen(7);
  for (int i = 0; i < 1'000; ++i) ++seen.at(random.below(7));
  for (const int count : seen) REQUIRE(count > 0);
  REQUIRE(random.below(1) == 0);
}

TEST_CASE("normal numbers have mean 0 and variance 1", "[base]") {
  Random random(7, "test");
  double sum = 0;
  double squares = 0;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  REQUIRE(std::abs(sum / kDraws) < 5 / std::sqrt(kDraws));
  REQUIRE(std::abs(squares / kDraws - 1) < 5 * std::sqrt(2.0 / kDraws));
}
