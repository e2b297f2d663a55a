#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.hpp"
#include "model/routing/expert_placement.hpp"
#include "model/routing/load_statistics.hpp"
#include "model/routing/router.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

std::vector<double> skewed(std::size_t experts) {
  Random random(1, "test-placement");
  std::vector<double> loads(experts);
  for (double& load : loads) load = std::exp(random.normal());
  return loads;
}

}  // namespace

TEST_CASE("every expert lies somewhere with all its tokens, and every GPU holds as many",
          "[routing][property]") {
  const int redundant = GENERATE(0, 64, 128);
  const int groups = GENERATE(1, 8, 16);
  CAPTURE(redundant, groups);
  const std::vector<double> loads = skewed(256);
  const ExpertPlacement placement = place_experts(loads, groups, 64, 8, redundant);
  std::set<std::size_t> order(placement.group_order.begin(), placement.group_order.end());
  REQUIRE(order.size() == static_cast<std::size_t>(groups));
  std::vector<double> shares(256, 0);
  const std::size_t size = 256 / static_cast<std::size_t>(groups);
  for (std::size_t gpu = 0; gpu < 64; ++gpu) {
    const auto& copies = placement.gpus[gpu];
    REQUIRE(copies.size() == static_cast<std::size_t>(256 + redundant) / 64);
    for (const ExpertPlacement::Copy& copy : copies) {
      shares[copy.expert] += copy.share;
      REQUIRE(copy.expert / size == gpu * static_cast<std::size_t>(groups) / 64);
    }
  }
  for (const double share : shares) REQUIRE(share == Approx(1));
}

TEST_CASE("copies make GPUs more even than any placement without could", "[routing]") {
  // Without copies the GPU of the busiest expert has at least that expert's load.
  const std::vector<double> loads = skewed(256);
  const double mean = std::accumulate(loads.begin(), loads.end(), 0.0) / 64;
  const double alone = *std::max_element(loads.begin(), loads.end()) / mean;
  REQUIRE(alone > 2);
  for (const int redundant : {64, 128, 256}) {
    const ExpertPlacement placement = place_experts(loads, 1, 64, 8, redundant);
    std::vector<double> gpus(64, 0);
    for (std::size_t gpu = 0; gpu < gpus.size(); ++gpu) {
      for (const ExpertPlacement::Copy& copy : placement.gpus[gpu])
        gpus[gpu] += copy.share * loads[copy.expert];
    }
    REQUIRE(load_statistics(gpus).max_over_mean < 1.1);
  }
}

TEST_CASE("heavy groups go to different nodes", "[routing]") {
  // Four groups of four experts on two nodes: 9 and 8 must part, as must 2 and 1.
  std::vector<double> loads(16);
  const double weights[] = {9, 8, 2, 1};
  for (std::size_t e = 0; e < loads.size(); ++e) loads[e] = weights[e / 4];
  const std::vector<std::size_t> order = place_experts(loads, 4, 8, 2, 0).group_order;
  REQUIRE(order == std::vector<std::size_t>{0, 3, 1, 2});
}

TEST_CASE("redundant experts even a Zipf layer and conserve its pairs", "[routing]") {
  RoutingSpec spec;
  spec.distribution = "zipf";
  spec.exponent.value = 0.4;
  const RoutingGroup group{64, 8, 4096};
  const Router plain(deepseek_v3(), spec, group, 1);
  spec.redundant_experts = 64;
  const Router redundant(deepseek_v3(), spec, group, 1);
  for (int layer = 0; layer < 5; ++layer) {
    const std::vector<float> before = plain.draw(0, layer, 0).rows;
    const std::vector<float> after = redundant.draw(0, layer, 0).rows;
    REQUIRE(*std::max_element(after.begin(), after.end()) <
            *std::max_element(before.begin(), before.end()));
    REQUIRE(std::accumulate(after.begin(), after.end(), 0.0) ==
            Approx(4096.0 * 64 * 8).epsilon(1e-3));
  }
}

TEST_CASE("placements that do not divide are refused", "[routing]") {
  const std::vector<double> loads(256, 1);
  REQUIRE_THROWS_WITH(place_experts(loads, 8, 4, 1, 0),
                      "expert placement: 4 GPUs for 8 groups; expected as many GPUs for each");
  REQUIRE_THROWS_WITH(place_experts(loads, 8, 64, 8, 32),
                      "expert placement: 32 redundant experts do not divide over 64 GPUs");
  REQUIRE_THROWS_AS(place_experts(loads, 0, 64, 8, 0), Error);
}
