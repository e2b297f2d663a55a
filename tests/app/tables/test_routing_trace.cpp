#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "app/tables/routing_trace.hpp"
#include "base/error.hpp"

using namespace pipecast;
using Catch::Matchers::Contains;

namespace {

std::filesystem::path written(const char* text) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / "pipecast_test_routing_trace.csv";
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("counts find their step, layer, rank and expert in any order", "[routing][csv]") {
  const RecordedLoads loads = read_routing_trace(
      written("step,layer,rank,expert,tokens\n1,0,0,3,7\n0,1,1,0,5\n0,1,1,0,2\n"), 4);
  REQUIRE(loads.steps == 2);
  REQUIRE(loads.layers == 2);
  REQUIRE(loads.groups == 2);
  REQUIRE(loads.tokens.size() == 2 * 2 * 2 * 4);
  REQUIRE(loads.tokens[(1 * 2 + 0) * 2 * 4 + 3] == 7);
  REQUIRE(loads.tokens[((0 * 2 + 1) * 2 + 1) * 4 + 0] == 5 + 2);
  REQUIRE(std::accumulate(loads.tokens.begin(), loads.tokens.end(), 0.0) == 14);
}

TEST_CASE("counts that make no sense are refused with their place", "[routing][csv]") {
  const auto refused = [](const char* text) {
    return [text] { return read_routing_trace(written(text), 4); };
  };
  REQUIRE_THROWS_WITH(refused("step,layer,rank,expert,tokens\n0,0,0,4,7\n")(),
                      Contains(":2:7: expert: '4' is no whole number within 0 and 3"));
  REQUIRE_THROWS_WITH(refused("step,layer,rank,expert,tokens\n0,0.5,0,1,7\n")(),
                      Contains(":2:3: layer: '0.5' is no whole number"));
  REQUIRE_THROWS_WITH(refused("step,layer,rank,expert,tokens\n0,0,0,1,-7\n")(),
                      Contains(":2:9: tokens: '-7' is no count"));
  REQUIRE_THROWS_WITH(refused("step,layer,rank,expert,tokens\n")(), Contains("has no counts"));
}

TEST_CASE("the shipped synthetic trace has top_k pairs for every token", "[routing][csv]") {
  const RecordedLoads loads = read_routing_trace(
      std::filesystem::path(PIPECAST_SOURCE_DIR) / "traces/routing/synthetic_dirichlet_16.csv", 16);
  REQUIRE(loads.steps == 4);
  REQUIRE(loads.layers == 2);
  REQUIRE(loads.groups == 2);
  // 8 GPUs of 128 tokens, two experts each.
  for (std::size_t row = 0; row < 4 * 2 * 2; ++row) {
    const auto first = loads.tokens.begin() + static_cast<std::ptrdiff_t>(row * 16);
    REQUIRE(std::accumulate(first, first + 16, 0.0) == 8 * 128 * 2);
  }
}
