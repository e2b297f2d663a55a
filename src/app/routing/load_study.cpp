#include "app/routing/load_study.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "base/assert.hpp"
#include "model/routing/load_statistics.hpp"

namespace pipecast {

namespace {

std::vector<double> widened(const std::vector<float>& loads) {
  return {loads.begin(), loads.end()};
}

void add(Unevenness& mean, const Unevenness& one, double draws) {
  mean.max_over_mean += one.max_over_mean / draws;
  mean.gini += one.gini / draws;
  mean.coefficient_of_variation += one.coefficient_of_variation / draws;
  mean.worst = std::max(mean.worst, one.worst);
}

void add(LayerLoads& mean, const LayerLoads& one, double draws) {
  add(mean.expert, one.expert, draws);
  add(mean.gpu, one.gpu, draws);
  add(mean.node, one.node, draws);
}

LayerLoads loads_of(const GroupLoad& load, const RoutingGroup& group) {
  return {.expert = unevenness_of(widened(load.experts)),
          .gpu = unevenness_of(widened(load.rows)),
          .node = unevenness_of(node_rows(load, group))};
}

}  // namespace

Unevenness unevenness_of(const std::vector<double>& loads) {
  const LoadStatistics one = load_statistics(loads);
  return {.max_over_mean = one.max_over_mean,
          .worst = one.max_over_mean,
          .gini = one.gini,
          .coefficient_of_variation = one.coefficient_of_variation};
}

std::vector<double> node_rows(const GroupLoad& load, const RoutingGroup& group) {
  const auto nodes = static_cast<std::size_t>(group.nodes());
  const std::size_t gpus = load.rows.size() / nodes;
  std::vector<double> out(nodes);
  for (std::size_t gpu = 0; gpu < load.rows.size(); ++gpu)
    out[gpu / gpus] += static_cast<double>(load.rows[gpu]);
  return out;
}

LoadStudy study_loads(const Router& router, int layers, int micro_batches) {
  PIPECAST_ASSERT(layers > 0 && layers <= router.layers() && micro_batches > 0);
  LoadStudy out{.layers = layers, .micro_batches = micro_batches};
  const double draws = static_cast<double>(layers) * micro_batches;
  const auto tokens = static_cast<double>(router.group().all_tokens());
  double wanted = 0;
  double dropped = 0;
  for (int layer = 0; layer < layers; ++layer) {
    LayerLoads& of_layer = out.by_layer.emplace_back();
    for (int micro_batch = 0; micro_batch < micro_batches; ++micro_batch) {
      const GroupLoad& load = out.draws.emplace_back(router.draw(0, layer, micro_batch));
      const LayerLoads one = loads_of(load, router.group());
      add(of_layer, one, micro_batches);
      add(out.all, one, draws);
      out.nodes_per_token += load.nodes_per_token / draws;
      out.gpus_per_token +=
          std::accumulate(load.received.begin(), load.received.end(), 0.0) / tokens / draws;
      wanted += std::accumulate(load.experts.begin(), load.experts.end(), 0.0);
      dropped += load.dropped;
    }
  }
  out.dropped_share = dropped / wanted;
  return out;
}

std::string record_of(const LoadStudy& study) {
  std::string out = "step,layer,rank,expert,tokens\n";
  for (int micro_batch = 0; micro_batch < study.micro_batches; ++micro_batch) {
    for (int layer = 0; layer < study.layers; ++layer) {
      const std::vector<float>& experts = study.draw(layer, micro_batch).experts;
      for (std::size_t expert = 0; expert < experts.size(); ++expert) {
        fmt::format_to(std::back_inserter(out), "{},{},0,{},{:.0f}\n", micro_batch, layer, expert,
                       experts[expert]);
      }
    }
  }
  return out;
}

}  // namespace pipecast
