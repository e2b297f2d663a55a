#include "model/routing/token_sampler.hpp"

#include <cmath>

#include "base/error.hpp"
#include "model/routing/gate.hpp"

namespace pipecast {

namespace {

/// Remembers which of some owners the present token has met.
class Distinct {
 public:
  explicit Distinct(std::size_t owners) : marks_(owners, -1) {}

  bool first(std::size_t owner, std::int64_t token) {
    const bool fresh = marks_[owner] != token;
    marks_[owner] = token;
    return fresh;
  }

 private:
  std::vector<std::int64_t> marks_;
};

}  // namespace

TokenCounts sample_tokens(const ModelSpec& model, const RoutingGroup& group,
                          const std::vector<double>& weights, const std::vector<double>& bias,
                          Random& random) {
  Gate gate(model);
  require(weights.size() == gate.experts() && (bias.empty() || bias.size() == gate.experts()),
          "routing: {} weights and {} biases for {} experts", weights.size(), bias.size(),
          gate.experts());
  require(group.gpus > 0 && model.n_routed_experts % group.gpus == 0,
          "routing: {} experts do not divide over ep={} GPUs", model.n_routed_experts, group.gpus);
  const auto gpus = static_cast<std::size_t>(group.gpus);
  const auto nodes = static_cast<std::size_t>(group.nodes());
  const std::size_t experts_per_gpu = gate.experts() / gpus;
  TokenCounts out{.experts = std::vector<std::int64_t>(gate.experts()),
                  .rows = std::vector<std::int64_t>(gpus),
                  .received = std::vector<std::int64_t>(gpus),
                  .node_copies = std::vector<std::int64_t>(nodes),
                  .copies = {gpus, std::vector<std::int64_t>(nodes)},
                  .sent = {gpus, std::vector<std::int64_t>(gpus)}};
  Distinct met_gpus(gpus);
  Distinct met_nodes(nodes);
  std::vector<double> scores(gate.experts());
  for (std::int64_t token = 0; token < group.all_tokens(); ++token) {
    for (std::size_t e = 0; e < scores.size(); ++e) {
      const double u = random.uniform();
      scores[e] = weights[e] == 1 ? u : std::pow(u, 1 / weights[e]);
      if (!bias.empty()) scores[e] += bias[e];
    }
    const auto source = static_cast<std::size_t>(token / group.tokens);
    for (const std::size_t expert : gate.select(scores)) {
      const std::size_t gpu = expert / experts_per_gpu;
      const std::size_t node = gpu * nodes / gpus;
      ++out.experts[expert];
      ++out.rows[gpu];
      if (met_gpus.first(gpu, token)) {
        ++out.received[gpu];
        ++out.sent[source][gpu];
      }
      if (met_nodes.first(node, token)) {
        ++out.node_copies[node];
        ++out.copies[source][node];
      }
    }
  }
  return out;
}

}  // namespace pipecast
