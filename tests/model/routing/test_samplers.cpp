// The fast sampler against the one that draws every token.
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "model/routing/aggregate_sampler.hpp"
#include "model/routing/router.hpp"
#include "model/routing/token_sampler.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr int kExactDraws = 24;
constexpr int kFastDraws = 400;

struct Geometry {
  const char* name;
  std::int64_t n_group;
  std::int64_t topk_group;
  RoutingGroup group;
};

ModelSpec model_of(const Geometry& g) {
  ModelSpec m = deepseek_v3();
  m.n_group = g.n_group;
  m.topk_group = g.topk_group;
  return m;
}

RoutingSpec dirichlet(double concentration) {
  RoutingSpec spec;
  spec.distribution = "dirichlet";
  spec.concentration.value = concentration;
  return spec;
}

RoutingSpec zipf(double exponent) {
  RoutingSpec spec;
  spec.distribution = "zipf";
  spec.exponent.value = exponent;
  return spec;
}

/// Mean and variance of each of several numbers over draws.
class Moments {
 public:
  template <class Container>
  void add(const Container& values) {
    sum_.resize(values.size());
    squares_.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto value = static_cast<double>(values[i]);
      sum_[i] += value;
      squares_[i] += value * value;
    }
    ++draws_;
  }
  [[nodiscard]] std::size_t size() const { return sum_.size(); }
  [[nodiscard]] double mean(std::size_t i) const { return sum_[i] / draws_; }
  [[nodiscard]] double variance(std::size_t i) const {
    return (squares_[i] - sum_[i] * sum_[i] / draws_) / (draws_ - 1);
  }
  [[nodiscard]] double mean_variance() const {
    double sum = 0;
    for (std::size_t i = 0; i < size(); ++i) sum += variance(i);
    return sum / static_cast<double>(size());
  }

 private:
  std::vector<double> sum_;
  std::vector<double> squares_;
  double draws_ = 0;
};

/// The root of the mean squared distance between means is what sampling alone explains, plus
/// `systematic` of the mean; the mean variances agree within their standard error and a tenth.
void require_agreement(const Moments& exact, const Moments& fast, double systematic) {
  REQUIRE(exact.size() == fast.size());
  double distance = 0;
  double level = 0;
  const auto count = static_cast<double>(exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    distance += std::pow(exact.mean(i) - fast.mean(i), 2) / count;
    level += exact.mean(i) / count;
  }
  const double variance = std::max(exact.mean_variance(), fast.mean_variance());
  const double sampling = variance * (1.0 / kExactDraws + 1.0 / kFastDraws);
  // A mean of `count` squares scatters by sqrt(2 / count); neighbours are correlated: twice that.
  const double scatter = 1 + 8 * std::sqrt(2 / count);
  CAPTURE(std::sqrt(distance) / level, std::sqrt(sampling) / level);
  REQUIRE(distance <= sampling * scatter + std::pow(systematic * level, 2));
  const double ratio = (fast.mean_variance() + 1e-9) / (exact.mean_variance() + 1e-9);
  CAPTURE(ratio);
  const double tolerance = 0.1 + 8 * std::sqrt(2 / (count * (kExactDraws - 1)));
  REQUIRE(std::abs(std::log(ratio)) <= tolerance);
}

/// Bytes into each node's network ports count copies of tokens whose source is another node.
std::vector<double> remote_copies(const TokenCounts& counts, const RoutingGroup& group) {
  std::vector<double> out(counts.node_copies.size());
  for (std::size_t source = 0; source < counts.copies.size(); ++source) {
    for (std::size_t node = 0; node < out.size(); ++node) {
      if (source / static_cast<std::size_t>(group.gpus_per_node) != node)
        out[node] += static_cast<double>(counts.copies[source][node]);
    }
  }
  return out;
}

void compare(const Geometry& g, const RoutingSpec& spec, double systematic) {
  const ModelSpec model = model_of(g);
  const Router router(model, spec, g.group, 7);
  const std::vector<double> weights = router.popularity(0, 3, 5);
  Moments exact[4];
  Moments fast[4];
  for (int i = 0; i < kExactDraws; ++i) {
    Random random(11, "test-exact", static_cast<std::uint64_t>(i));
    const TokenCounts counts = sample_tokens(model, g.group, weights, {}, random);
    exact[0].add(counts.rows);
    exact[1].add(counts.received);
    exact[2].add(counts.node_copies);
    exact[3].add(remote_copies(counts, g.group));
  }
  const double remote = 1 - 1.0 / g.group.nodes();
  for (int i = 0; i < kFastDraws; ++i) {
    Random random(12, "test-fast", static_cast<std::uint64_t>(i));
    const GroupLoad load = router.sampler().sample(weights, 0, &random);
    fast[0].add(load.rows);
    fast[1].add(load.received);
    fast[2].add(load.node_copies);
    std::vector<double> over_network(load.node_copies.begin(), load.node_copies.end());
    for (double& copies : over_network) copies *= remote;
    fast[3].add(over_network);
  }
  for (int quantity = 0; quantity < 3; ++quantity) {
    CAPTURE(quantity);
    require_agreement(exact[quantity], fast[quantity], systematic);
  }
  // By link: sources differ as well, which only the mean over draws evens out.
  for (std::size_t node = 0; node < fast[3].size(); ++node) {
    const double error = std::sqrt(exact[3].variance(node) / kExactDraws);
    REQUIRE(std::abs(exact[3].mean(node) - fast[3].mean(node)) <=
            5 * error + systematic * exact[3].mean(node));
  }
}

}  // namespace

TEST_CASE("both samplers agree in mean and variance of rows, distinct tokens and copies",
          "[routing][property]") {
  const Geometry g = GENERATE(Geometry{"64 GPUs, a group per node", 8, 4, {64, 8, 8}},
                              Geometry{"16 GPUs, half a group each", 8, 4, {16, 8, 32}},
                              Geometry{"8 GPUs, a group each", 8, 4, {8, 8, 64}},
                              Geometry{"4 GPUs, two groups each", 8, 4, {4, 8, 128}},
                              Geometry{"64 GPUs, no groups", 1, 1, {64, 8, 8}},
                              Geometry{"32 GPUs, all groups kept", 4, 4, {32, 8, 16}});
  CAPTURE(g.name);
  SECTION("balanced") { compare(g, RoutingSpec{}, 0.005); }
  SECTION("dirichlet") { compare(g, dirichlet(10.7), 0.01); }
  SECTION("zipf") { compare(g, zipf(0.5), 0.03); }
}

TEST_CASE("expected use of experts is that of drawn tokens", "[routing][property]") {
  const std::int64_t n_group = GENERATE(1, 8);
  const Geometry g{"", n_group, n_group == 1 ? 1 : 4, {64, 8, 256}};
  CAPTURE(n_group);
  const ModelSpec model = model_of(g);
  const Router router(model, dirichlet(3), g.group, 3);
  const std::vector<double> weights = router.popularity(0, 0, 0);
  const ExpectedChoice choice = router.sampler().expect(weights);
  Random random(5, "test-experts");
  const TokenCounts counts = sample_tokens(model, g.group, weights, {}, random);
  const auto tokens = static_cast<double>(g.group.all_tokens());
  double chi_square = 0;
  for (std::size_t e = 0; e < weights.size(); ++e) {
    const double p = choice.experts[e];
    chi_square +=
        std::pow(static_cast<double>(counts.experts[e]) - tokens * p, 2) / (tokens * p * (1 - p));
  }
  const auto experts = static_cast<double>(weights.size());
  REQUIRE(chi_square / experts <= 1 + 5 * std::sqrt(2 / experts));
}

TEST_CASE("pairs are conserved: rows and dropped ones add up to tokens times top_k",
          "[routing][property]") {
  const double capacity = GENERATE(0.0, 1.0, 1.25, 2.0);
  CAPTURE(capacity);
  RoutingSpec spec = dirichlet(2);
  spec.capacity_factor = capacity;
  const ModelSpec model = deepseek_v3();
  const RoutingGroup group{64, 8, 4096};
  const Router router(model, spec, group, 1);
  const double pairs = static_cast<double>(group.all_tokens() * model.num_experts_per_tok);
  for (int micro_batch = 0; micro_batch < 20; ++micro_batch) {
    const GroupLoad load = router.draw(0, 2, micro_batch);
    const double rows = std::accumulate(load.rows.begin(), load.rows.end(), 0.0);
    REQUIRE(rows + load.dropped == Approx(pairs).epsilon(1e-6));
    REQUIRE((capacity == 0 ? load.dropped == 0 : load.dropped > 0));
    for (std::size_t gpu = 0; gpu < load.rows.size(); ++gpu) {
      REQUIRE(load.received[gpu] <= load.rows[gpu] * (1 + 1e-6F));
      if (capacity > 0) REQUIRE(load.rows[gpu] <= capacity * pairs / 64 * (1 + 1e-6));
    }
  }
}

TEST_CASE("experts that do not fit GPUs, nodes and groups are refused", "[routing]") {
  const ModelSpec model = deepseek_v3();
  REQUIRE_THROWS_WITH(AggregateSampler(model, {48, 8, 1}),
                      "routing: 256 experts do not divide over ep=48 GPUs");
  REQUIRE_THROWS_WITH(AggregateSampler(model, {64, 24, 1}),
                      "routing: ep=64 GPUs do not fill nodes of 24");
  REQUIRE_THROWS_WITH(AggregateSampler(model, {64, 8, 0}),
                      "routing: a group of 64 GPUs, 8 per node, with 0 tokens each");
  ModelSpec odd = deepseek_v3();
  odd.n_routed_experts = 96;
  odd.n_group = 6;
  REQUIRE_THROWS_WITH(AggregateSampler(odd, {4, 8, 1}),
                      "routing: a GPU holds 24 experts, which cuts across groups of 16");
}
