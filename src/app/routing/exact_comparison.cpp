#include "app/routing/exact_comparison.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "app/routing/load_study.hpp"
#include "model/routing/token_sampler.hpp"

namespace pipecast {

namespace {

template <class Count>
std::vector<double> widened(const std::vector<Count>& counts) {
  std::vector<double> out;
  out.reserve(counts.size());
  for (const Count count : counts) out.push_back(static_cast<double>(count));
  return out;
}

/// Counts of either sampler.
struct Counts {
  std::vector<double> experts;
  std::vector<double> rows;
  std::vector<double> received;
  std::vector<double> node_copies;
};

struct Quantity {
  const char* name;
  double (*of)(const Counts&, double tokens);
};

double total(const std::vector<double>& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0.0);
}

constexpr Quantity kQuantities[] = {
    {"expert load, max over mean",
     [](const Counts& c, double) { return unevenness_of(c.experts).max_over_mean; }},
    {"expert load, Gini coefficient",
     [](const Counts& c, double) { return unevenness_of(c.experts).gini; }},
    {"GPU load, max over mean",
     [](const Counts& c, double) { return unevenness_of(c.rows).max_over_mean; }},
    {"tokens that reach a GPU, max over mean",
     [](const Counts& c, double) { return unevenness_of(c.received).max_over_mean; }},
    {"tokens that reach a node, max over mean",
     [](const Counts& c, double) { return unevenness_of(c.node_copies).max_over_mean; }},
    {"GPUs per token", [](const Counts& c, double tokens) { return total(c.received) / tokens; }},
    {"nodes per token",
     [](const Counts& c, double tokens) { return total(c.node_copies) / tokens; }},
};

Counts exact_counts(const ModelSpec& model, const Router& router, int layer,
                    const std::vector<double>& bias, std::uint64_t seed) {
  Random random = draw_generator(seed, "exact-tokens", 0, layer, 0);
  const TokenCounts counts =
      sample_tokens(model, router.group(), router.popularity(0, layer, 0), bias, random);
  return {.experts = widened(counts.experts),
          .rows = widened(counts.rows),
          .received = widened(counts.received),
          .node_copies = widened(counts.node_copies)};
}

Counts fast_counts(const Router& router, const std::vector<double>& weights, Random& random) {
  const GroupLoad load = router.sampler().sample(weights, 0, &random);
  return {.experts = widened(load.experts),
          .rows = widened(load.rows),
          .received = widened(load.received),
          .node_copies = widened(load.node_copies)};
}

ExactLayer compare_layer(const ModelSpec& model, const Router& router, int layer,
                         std::uint64_t seed) {
  constexpr int kDraws = 100;
  const auto tokens = static_cast<double>(router.group().all_tokens());
  const std::vector<double> bias =
      router.biased() ? router.bias(layer).bias : std::vector<double>{};
  const Counts exact = exact_counts(model, router, layer, bias, seed);
  std::vector<double> weights = router.popularity(0, layer, 0);
  if (!bias.empty()) weights = biased_weights(router.sampler(), weights, bias);
  Random random = draw_generator(seed, "fast-tokens", 0, layer, 0);
  ExactLayer out{.layer = layer};
  for (const Quantity& quantity : kQuantities)
    out.rows.push_back({.quantity = quantity.name, .exact = quantity.of(exact, tokens)});
  for (int draw = 0; draw < kDraws; ++draw) {
    const Counts fast = fast_counts(router, weights, random);
    for (std::size_t i = 0; i < out.rows.size(); ++i) {
      const double value = kQuantities[i].of(fast, tokens);
      out.rows[i].fast += value / kDraws;
      out.rows[i].spread += value * value / kDraws;
    }
  }
  for (ExactRow& row : out.rows)
    row.spread = std::sqrt(std::max(0.0, row.spread - row.fast * row.fast));
  return out;
}

}  // namespace

std::vector<ExactLayer> compare_exact(const ModelSpec& model, const Router& router, int layers,
                                      std::uint64_t seed,
                                      const std::function<void(double)>& progress) {
  std::vector<ExactLayer> out;
  for (int layer = 0; layer < layers; ++layer) {
    if (progress) progress(static_cast<double>(layer) / layers);
    out.push_back(compare_layer(model, router, layer, seed));
  }
  return out;
}

}  // namespace pipecast
