#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "model/routing/balanced.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

ModelSpec ungrouped(std::int64_t experts, std::int64_t top_k) {
  ModelSpec m = deepseek_v3();
  m.n_routed_experts = experts;
  m.num_experts_per_tok = top_k;
  m.n_group = 1;
  m.topk_group = 1;
  return m;
}

/// Probability that none of `top_k` different experts of `experts` is among `held` given ones.
double none_of(std::int64_t held, std::int64_t experts, std::int64_t top_k) {
  double p = 1;
  for (std::int64_t i = 0; i < top_k; ++i)
    p *= static_cast<double>(experts - held - i) / static_cast<double>(experts - i);
  return p;
}

/// Mean number of `owners` of equal parts of the experts that a token meets, each by the
/// hypergeometric distribution.
double expected_owners(std::int64_t owners, std::int64_t experts, std::int64_t top_k) {
  return static_cast<double>(owners) * (1 - none_of(experts / owners, experts, top_k));
}

}  // namespace

TEST_CASE("one expert per token means one GPU and one node", "[routing]") {
  const RoutingStatistics s = balanced_routing(ungrouped(64, 1), 16, 4);
  REQUIRE(s.gpus_per_token == 1);
  REQUIRE(s.nodes_per_token == 1);
}

TEST_CASE("a token that uses every expert meets every GPU and node", "[routing]") {
  const RoutingStatistics s = balanced_routing(ungrouped(64, 64), 16, 4);
  REQUIRE(s.gpus_per_token == 16);
  REQUIRE(s.nodes_per_token == 4);
}

TEST_CASE("where every expert has its own GPU a token meets as many as it uses", "[routing]") {
  const RoutingStatistics s = balanced_routing(ungrouped(64, 6), 64, 8);
  REQUIRE(s.gpus_per_token == 6);
}

TEST_CASE("one GPU holds all: nothing is remote", "[routing]") {
  const RoutingStatistics s = balanced_routing(deepseek_v3(), 1, 8);
  REQUIRE(s.gpus_per_token == 1);
  REQUIRE(s.nodes_per_token == 1);
}

TEST_CASE("without groups the means are hypergeometric", "[routing][property]") {
  const std::int64_t top_k = GENERATE(2, 6, 8);
  const int ep = GENERATE(16, 32, 64);
  CAPTURE(top_k, ep);
  const RoutingStatistics s = balanced_routing(ungrouped(256, top_k), ep, 8);
  // 1,024 tokens; the count varies by less than one per token, so 4 standard errors are 0.125.
  REQUIRE(s.gpus_per_token == Approx(expected_owners(ep, 256, top_k)).margin(0.125));
  REQUIRE(s.nodes_per_token == Approx(expected_owners(ep / 8, 256, top_k)).margin(0.125));
}

TEST_CASE("a token stays within its groups' nodes", "[routing]") {
  // Eight groups on eight nodes, at most four of them used. Given four groups, eight of their 128
  // experts miss a given one with the hypergeometric probability; the gate prefers groups with high
  // scores, so the truth is a little above.
  const RoutingStatistics s = balanced_routing(deepseek_v3(), 64, 8);
  REQUIRE(s.nodes_per_token <= 4);
  REQUIRE(s.nodes_per_token >= expected_owners(4, 128, 8));
  REQUIRE(s.nodes_per_token == Approx(3.95).margin(0.05));
  REQUIRE(s.gpus_per_token <= 8);
}

TEST_CASE("routing is a property of the gate: drawn twice, it is the same", "[routing]") {
  const RoutingStatistics a = balanced_routing(deepseek_v3(), 64, 8);
  const RoutingStatistics b = balanced_routing(deepseek_v3(), 64, 8);
  REQUIRE(a.nodes_per_token == b.nodes_per_token);
  REQUIRE(a.gpus_per_token == b.gpus_per_token);
}

TEST_CASE("experts that do not divide over the GPUs are refused", "[routing]") {
  REQUIRE_THROWS_WITH(balanced_routing(deepseek_v3(), 48, 8),
                      "balanced routing: 256 experts do not divide over ep=48 GPUs");
  REQUIRE_THROWS_AS(balanced_routing(deepseek_v3(), 0, 8), Error);
  REQUIRE_THROWS_AS(balanced_routing(deepseek_v3(), 64, 0), Error);
}
