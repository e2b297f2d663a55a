#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "base/error.hpp"
#include "base/random.hpp"
#include "model/routing/gate.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

ModelSpec gate_of(std::int64_t experts, std::int64_t top_k, std::int64_t groups,
                  std::int64_t kept) {
  ModelSpec m = deepseek_v3();
  m.n_routed_experts = experts;
  m.num_experts_per_tok = top_k;
  m.n_group = groups;
  m.topk_group = kept;
  return m;
}

/// The published gate, word by word, with full sorts.
std::set<std::size_t> reference(const ModelSpec& m, const std::vector<double>& scores) {
  const auto groups = static_cast<std::size_t>(m.n_group);
  const std::size_t size = scores.size() / groups;
  std::vector<std::pair<double, std::size_t>> ranked;
  for (std::size_t g = 0; g < groups; ++g) {
    std::vector<double> in_group(&scores[g * size], &scores[g * size] + size);
    std::sort(in_group.rbegin(), in_group.rend());
    ranked.emplace_back(in_group[0] + (size > 1 ? in_group[1] : 0), g);
  }
  std::sort(ranked.rbegin(), ranked.rend());
  std::vector<std::pair<double, std::size_t>> candidates;
  for (std::size_t i = 0; i < static_cast<std::size_t>(m.topk_group); ++i) {
    for (std::size_t e = 0; e < size; ++e) {
      const std::size_t expert = ranked[i].second * size + e;
      candidates.emplace_back(scores[expert], expert);
    }
  }
  std::sort(candidates.rbegin(), candidates.rend());
  std::set<std::size_t> out;
  for (std::size_t i = 0; i < static_cast<std::size_t>(m.num_experts_per_tok); ++i)
    out.insert(candidates[i].second);
  return out;
}

}  // namespace

TEST_CASE("the gate picks what sorting everything picks, negative scores included",
          "[routing][property]") {
  const ModelSpec m = GENERATE(gate_of(256, 8, 8, 4), gate_of(64, 6, 1, 1), gate_of(160, 6, 8, 3),
                               gate_of(16, 2, 4, 4), gate_of(8, 3, 8, 5));
  Gate gate(m);
  Random random(1, "test-gate");
  std::vector<double> scores(gate.experts());
  for (int token = 0; token < 200; ++token) {
    for (double& score : scores) score = random.uniform() - 0.3;
    const std::vector<std::size_t>& picked = gate.select(scores);
    REQUIRE(std::set<std::size_t>(picked.begin(), picked.end()) == reference(m, scores));
  }
}

TEST_CASE("numbers that make no gate are refused", "[routing]") {
  REQUIRE_THROWS_WITH(Gate(gate_of(250, 8, 8, 4)), "gate: 250 experts do not divide over 8 groups");
  REQUIRE_THROWS_WITH(Gate(gate_of(256, 8, 8, 9)), "gate: topk_group=9 of n_group=8");
  REQUIRE_THROWS_WITH(Gate(gate_of(16, 8, 8, 2)),
                      "gate: 2 groups of 2 experts do not hold 8 for a token");
}
