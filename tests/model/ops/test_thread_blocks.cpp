#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

#include "model/ops/thread_blocks.hpp"

using namespace pipecast;

namespace {

/// The same by looking through all SMs for the first free one.
double naive_end(const std::vector<double>& blocks, std::int64_t groups, int sms) {
  std::vector<double> free_at(static_cast<std::size_t>(sms), 0.0);
  for (std::int64_t group = 0; group < groups; ++group) {
    for (const double block : blocks) *std::min_element(free_at.begin(), free_at.end()) += block;
  }
  return *std::max_element(free_at.begin(), free_at.end());
}

/// Whole numbers of cycles, so that sums do not depend on their order.
std::vector<double> some_blocks(std::size_t count, std::uint64_t seed) {
  std::vector<double> out(count);
  std::uint64_t state = seed;
  for (double& block : out) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    block = 1 + static_cast<double>(state >> 54U);  // 1 .. 1,024
  }
  return out;
}

}  // namespace

TEST_CASE("blocks start in order on the SM that is free first", "[ops]") {
  const auto count = GENERATE(as<std::size_t>{}, 1, 2, 7, 40);
  const std::int64_t groups = GENERATE(1, 3, 128);
  const int sms = GENERATE(1, 5, 132);
  const std::vector<double> blocks = some_blocks(count, GENERATE(as<std::uint64_t>{}, 1, 2, 3));
  CAPTURE(count, groups, sms);
  REQUIRE(last_block_end(blocks, groups, sms) == naive_end(blocks, groups, sms));
}

TEST_CASE("equal blocks go in waves", "[ops]") {
  const std::vector<double> blocks(7, 10.0);
  const int sms = GENERATE(1, 3, 100);
  const std::int64_t groups = GENERATE(1, 100, 100'000);
  CAPTURE(sms, groups);
  const double waves = static_cast<double>((groups * 7 + sms - 1) / sms);
  REQUIRE(last_block_end(blocks, groups, sms) == 10 * waves);
}

TEST_CASE("the last block never ends earlier with more blocks, or with fewer SMs",
          "[ops][property]") {
  const std::int64_t groups = GENERATE(1, 2, 30, 127, 128, 129, 400);
  const int sms = GENERATE(1, 2, 20, 131);
  const std::vector<double> blocks = some_blocks(12, GENERATE(as<std::uint64_t>{}, 4, 5, 6));
  CAPTURE(groups, sms);
  const double base = last_block_end(blocks, groups, sms);
  REQUIRE(last_block_end(blocks, groups + 1, sms) >= base);
  REQUIRE(last_block_end(blocks, groups, sms + 1) <= base);
  for (const std::size_t place : {std::size_t{0}, std::size_t{5}, blocks.size()}) {
    std::vector<double> more = blocks;
    more.insert(more.begin() + static_cast<std::ptrdiff_t>(place), 77.0);
    REQUIRE(last_block_end(more, groups, sms) >= base);
  }
}

TEST_CASE("no order beats an even spread, nor the longest block", "[ops][property]") {
  const std::int64_t groups = GENERATE(1, 50, 1000);
  const int sms = GENERATE(1, 17, 132);
  const std::vector<double> blocks = some_blocks(20, GENERATE(as<std::uint64_t>{}, 7, 8));
  CAPTURE(groups, sms);
  const double even =
      std::accumulate(blocks.begin(), blocks.end(), 0.0) * static_cast<double>(groups) / sms;
  const double longest = *std::max_element(blocks.begin(), blocks.end());
  const double end = last_block_end(blocks, groups, sms);
  REQUIRE(end >= Approx(even).epsilon(1e-12));
  REQUIRE(end >= longest);
  // List scheduling: whoever ends last started before the others ran out of work.
  REQUIRE(end <= even + longest);
}

TEST_CASE("nothing to do takes no time", "[ops]") {
  REQUIRE(last_block_end({}, 5, 10) == 0);
  REQUIRE(last_block_end(std::vector<double>{3.0}, 0, 10) == 0);
}
