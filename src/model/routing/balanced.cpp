#include "model/routing/balanced.hpp"

#include <algorithm>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"
#include "model/routing/gate.hpp"

namespace pipecast {

namespace {

/// Counts distinct values of `owner(expert)`; `marks` remembers the last token that met each owner.
template <class Owner>
int count_distinct(const std::vector<std::size_t>& experts, int token, std::vector<int>& marks,
                   Owner owner) {
  int distinct = 0;
  for (const std::size_t expert : experts) {
    int& mark = marks[owner(expert)];
    distinct += mark != token ? 1 : 0;
    mark = token;
  }
  return distinct;
}

}  // namespace

RoutingStatistics balanced_routing(const ModelSpec& model, int ep, int gpus_per_node) {
  require(ep > 0 && gpus_per_node > 0 && model.n_routed_experts % ep == 0,
          "balanced routing: {} experts do not divide over ep={} GPUs", model.n_routed_experts, ep);
  constexpr int kTokens = 1024;
  const auto experts_per_gpu = static_cast<std::size_t>(model.n_routed_experts / ep);
  const auto experts_per_node = experts_per_gpu * static_cast<std::size_t>(gpus_per_node);
  const auto owners = static_cast<std::size_t>(ep);
  std::vector<int> gpu_marks(owners, -1);
  std::vector<int> node_marks(owners, -1);
  Gate gate(model);
  std::vector<double> scores(gate.experts());
  Random random(0, "balanced-routing");
  std::int64_t gpus = 0;
  std::int64_t nodes = 0;
  for (int token = 0; token < kTokens; ++token) {
    for (double& score : scores) score = random.uniform();
    const std::vector<std::size_t>& experts = gate.select(scores);
    gpus += count_distinct(experts, token, gpu_marks,
                           [=](std::size_t e) { return e / experts_per_gpu; });
    nodes += count_distinct(experts, token, node_marks,
                            [=](std::size_t e) { return e / experts_per_node; });
  }
  return {.nodes_per_token = static_cast<double>(nodes) / kTokens,
          .gpus_per_token = static_cast<double>(gpus) / kTokens};
}

}  // namespace pipecast
