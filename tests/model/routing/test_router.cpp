#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "base/registry.hpp"
#include "model/routing/fast_normal.hpp"
#include "model/routing/load_statistics.hpp"
#include "model/routing/router.hpp"
#include "model/routing/token_sampler.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr RoutingGroup kEp64{64, 8, 4096};

RoutingSpec spec_of(const std::string& distribution) {
  RoutingSpec spec;
  spec.distribution = distribution;
  spec.concentration.value = 10.7;
  spec.exponent.value = 0.6;
  spec.spread.value = 0.4;
  spec.topics = 6;
  spec.drift_micro_batch = 0.8;
  spec.drift_layer = 0.5;
  return spec;
}

}  // namespace

TEST_CASE("the ways to draw a popularity are known by name", "[routing]") {
  REQUIRE(Registry<PopularityKind>::instance().names() ==
          std::vector<std::string>{"balanced", "dirichlet", "topics", "trace", "zipf"});
}

TEST_CASE("a draw depends on its arguments and the seed alone", "[routing]") {
  const std::string distribution = GENERATE("dirichlet", "topics", "zipf");
  CAPTURE(distribution);
  const Router a(deepseek_v3(), spec_of(distribution), kEp64, 1);
  const Router b(deepseek_v3(), spec_of(distribution), kEp64, 1);
  const Router other(deepseek_v3(), spec_of(distribution), kEp64, 2);
  const GroupLoad first = a.draw(1, 20, 70);
  REQUIRE(a.draw(0, 3, 1).rows != first.rows);
  REQUIRE(b.draw(1, 20, 70).rows == first.rows);
  REQUIRE(a.draw(1, 20, 70).received == first.received);
  REQUIRE(other.draw(1, 20, 70).rows != first.rows);
  REQUIRE(a.draw(1, 20, 71).rows != first.rows);
  REQUIRE(a.draw(0, 20, 70).rows != first.rows);
  REQUIRE(a.draw(1, 21, 70).rows != first.rows);
}

TEST_CASE("a token meets as many nodes as DeepEP's benchmarks say", "[routing]") {
  // Their gate has one group per node and keeps at most four: 1.99 of 2, 3.6 of 4, 3.95 of 8.
  // Where all N groups are kept, one is missed with the hypergeometric chance, about (1 - 1/N)^8.
  ModelSpec m = deepseek_v3();
  m.n_group = 2;
  m.topk_group = 2;
  REQUIRE(Router(m, {}, {16, 8, 4096}, 1).nodes_per_token() == Approx(1.99).margin(0.005));
  m.n_group = 4;
  m.topk_group = 4;
  REQUIRE(Router(m, {}, {32, 8, 4096}, 1).nodes_per_token() == Approx(3.6).margin(0.05));
  REQUIRE(Router(deepseek_v3(), {}, kEp64, 1).nodes_per_token() == Approx(3.95).margin(0.01));
}

TEST_CASE("balanced draws are the same for all", "[routing]") {
  const Router router(deepseek_v3(), {}, kEp64, 1);
  REQUIRE(router.draw(0, 0, 0).rows == router.balanced().rows);
  for (const float rows : router.balanced().rows) REQUIRE(rows == Approx(4096 * 8));
}

TEST_CASE("a symmetric Dirichlet's weights vary by 1 / sqrt(concentration)", "[routing]") {
  const Router router(deepseek_v3(), spec_of("dirichlet"), kEp64, 1);
  double variance = 0;
  constexpr int kDraws = 50;
  for (int i = 0; i < kDraws; ++i) {
    const double cv = load_statistics(router.popularity(0, 0, i)).coefficient_of_variation;
    variance += cv * cv / kDraws;
  }
  // 12,800 gamma variates: their variance is known to about 2 %.
  REQUIRE(variance == Approx(1 / 10.7).epsilon(0.06));
}

TEST_CASE("Zipf's weights fall with the rank and stay over micro-batches and groups", "[routing]") {
  const Router router(deepseek_v3(), spec_of("zipf"), kEp64, 1);
  std::vector<double> weights = router.popularity(0, 4, 0);
  REQUIRE(weights == router.popularity(1, 4, 9));
  REQUIRE(weights != router.popularity(0, 5, 0));
  std::sort(weights.rbegin(), weights.rend());
  REQUIRE(weights[0] / weights[9] == Approx(std::pow(10, 0.6)));
  REQUIRE(std::accumulate(weights.begin(), weights.end(), 0.0) == Approx(256));
}

TEST_CASE("topics drift: popularity is correlated over micro-batches and layers as asked",
          "[routing][property]") {
  const RoutingSpec spec = spec_of("topics");
  const Router router(deepseek_v3(), spec, kEp64, 5);
  // Weights are scaled to a mean of one, which subtracts a constant from all logarithms.
  const auto correlation = [&](int layers, int micro_batches) {
    double product = 0;
    double squares = 0;
    for (int group = 0; group < 400; ++group) {
      const std::vector<double> a = router.popularity(group, 10, 20);
      const std::vector<double> b = router.popularity(group, 10 + layers, 20 + micro_batches);
      for (std::size_t e = 0; e < a.size(); ++e) {
        product += std::log(a[e]) * std::log(b[e]);
        squares += std::log(a[e]) * std::log(a[e]);
      }
    }
    return product / squares;
  };
  // 400 groups of 6 topics: standard error of a correlation about 1 / sqrt(2400) = 0.02, and of
  // one between layers 1 / sqrt(6 * 256) = 0.03.
  REQUIRE(correlation(0, 1) == Approx(0.8).margin(0.1));
  REQUIRE(correlation(0, 5) == Approx(std::pow(0.8, 5)).margin(0.12));
  REQUIRE(correlation(1, 0) == Approx(0.5).margin(0.12));
}

TEST_CASE("recorded counts are used in turn", "[routing]") {
  ModelSpec m = deepseek_v3();
  m.n_routed_experts = 16;
  m.n_group = 1;
  m.topk_group = 1;
  m.num_experts_per_tok = 2;
  RecordedLoads loads{.steps = 2, .layers = 1, .groups = 1, .experts = 16, .tokens = {}};
  for (int i = 0; i < 32; ++i) loads.tokens.push_back(i < 16 ? 100 : 10 * (i - 15));
  const Router router(m, spec_of("trace"), {8, 8, 64}, 1, &loads);
  REQUIRE(router.popularity(0, 3, 0) == std::vector<double>(16, 1));
  REQUIRE(router.popularity(0, 3, 1)[15] == Approx(16 * router.popularity(0, 3, 1)[0]));
  REQUIRE(router.popularity(0, 3, 2) == router.popularity(0, 3, 0));
  REQUIRE_THROWS_WITH(Router(m, spec_of("trace"), {8, 8, 64}, 1),
                      "routing: the distribution trace needs recorded counts");
  loads.experts = 32;
  REQUIRE_THROWS_WITH(Router(m, spec_of("trace"), {8, 8, 64}, 1, &loads),
                      "routing: the trace has 32 experts, the model 16");
}

TEST_CASE("the loss-free bias evens a skewed gate over training steps, as drawn tokens confirm",
          "[routing]") {
  RoutingSpec spec = spec_of("zipf");
  spec.exponent.value = 0.3;
  spec.bias.steps = 60;
  ModelSpec m = deepseek_v3();
  m.num_hidden_layers = 5;
  m.num_nextn_predict_layers = 0;
  const RoutingGroup group{64, 8, 128};
  const Router router(m, spec, group, 1);
  const std::vector<double>& violations = router.bias(0).max_violations;
  REQUIRE(violations.size() == 60);
  REQUIRE(violations.front() > 1);
  REQUIRE(violations.back() < 0.25 * violations.front());

  const std::vector<double> weights = router.popularity(0, 0, 0);
  const auto violation = [&](const std::vector<double>& bias) {
    Random random(3, "test-bias");
    const TokenCounts counts = sample_tokens(m, group, weights, bias, random);
    return load_statistics({counts.experts.begin(), counts.experts.end()}).max_violation();
  };
  // 8,192 tokens give each expert 256: the largest of 256 is some 3 / sqrt(256) = 0.19 above.
  REQUIRE(violation(router.bias(0).bias) < violation({}) / 2);
}

TEST_CASE("load statistics of simple loads", "[routing]") {
  const LoadStatistics even = load_statistics({5, 5, 5, 5});
  REQUIRE(even.max_over_mean == 1);
  REQUIRE(even.gini == Approx(0).margin(1e-12));
  const LoadStatistics one = load_statistics({0, 0, 0, 8});
  REQUIRE(one.max_violation() == 3);
  REQUIRE(one.gini == Approx(0.75));  // 1 - 1/n
  REQUIRE(one.coefficient_of_variation == Approx(std::sqrt(3.0)));
  REQUIRE(load_statistics({1, 3}).gini == Approx(0.25));  // |1 - 3| / 2 / (2 * 2)
  REQUIRE_THROWS_WITH(load_statistics({}), "load statistics: there are no loads");
  REQUIRE_THROWS_WITH(load_statistics({0, 0}), "load statistics: loads from 0 to 0");
}

TEST_CASE("fast normal numbers have the moments of the normal distribution", "[routing]") {
  Random random(1, "test-normal");
  constexpr int kNumbers = 200'000;
  double moments[5] = {};
  int beyond = 0;
  for (int i = 0; i < kNumbers; ++i) {
    const double x = fast_normal(random);
    double power = 1;
    for (double& moment : moments) {
      moment += power / kNumbers;
      power *= x;
    }
    beyond += std::abs(x) > 3 ? 1 : 0;
  }
  // Standard errors: sqrt(variance of the power / numbers), that is of x^4 sqrt(96 / numbers).
  REQUIRE(moments[1] == Approx(0).margin(5 * std::sqrt(1.0 / kNumbers)));
  REQUIRE(moments[2] == Approx(1).margin(5 * std::sqrt(2.0 / kNumbers)));
  REQUIRE(moments[3] == Approx(0).margin(5 * std::sqrt(15.0 / kNumbers)));
  REQUIRE(moments[4] == Approx(3).margin(5 * std::sqrt(96.0 / kNumbers)));
  REQUIRE(beyond == Approx(kNumbers * std::erfc(3 / std::sqrt(2.0))).epsilon(0.2));
}
