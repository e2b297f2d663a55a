/// Who gets how many tokens, in every expert-parallel group, layer and micro-batch of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/routing/aggregate_sampler.hpp"
#include "model/routing/bias_rule.hpp"
#include "model/routing/group_load.hpp"
#include "model/routing/popularity.hpp"
#include "model/specs/model.hpp"
#include "model/specs/routing.hpp"

namespace pipecast {

/// Constant after construction and shared by threads: every draw depends on (seed, group, layer,
/// micro_batch) alone.
class Router {
 public:
  /// @throws Error if the routing's or the group's numbers do not fit the model
  /// @param recorded  what spec.trace holds; null where the distribution is another one
  Router(const ModelSpec& model, const RoutingSpec& spec, const RoutingGroup& group,
         std::uint64_t seed, const RecordedLoads* recorded = nullptr);

  /// Loads of one micro-batch; without noise where the distribution is `balanced`, which stands for
  /// routing that is forced to be even.
  /// @param layer  0 .. layers()-1, those of multi-token prediction last
  [[nodiscard]] GroupLoad draw(int group, int layer, int micro_batch) const;

  /// The expectation when every expert is as popular as any other.
  [[nodiscard]] const GroupLoad& balanced() const { return balanced_; }

  /// Popularity of the experts behind draw(), before any bias.
  [[nodiscard]] std::vector<double> popularity(int group, int layer, int micro_batch) const;

  /// Mean number of nodes that hold one of a balanced token's experts, its own included.
  [[nodiscard]] double nodes_per_token() const { return balanced_.nodes_per_token; }
  /// Whether the bias rule has run.
  [[nodiscard]] bool biased() const { return !bias_.empty(); }
  /// MaxVio over the steps of the bias rule before the simulated one, of one layer.
  [[nodiscard]] const BiasHistory& bias(int layer) const;
  /// Where the experts of a layer lie, with redundant ones; null: in order.
  [[nodiscard]] const ExpertPlacement* placement(int layer) const {
    return placements_.empty() ? nullptr : &placements_.at(static_cast<std::size_t>(layer));
  }
  [[nodiscard]] const AggregateSampler& sampler() const { return sampler_; }
  [[nodiscard]] int layers() const { return layers_; }
  [[nodiscard]] const RoutingGroup& group() const { return group_; }

 private:
  [[nodiscard]] std::vector<double> biased(int layer, std::vector<double> weights) const;

  RoutingGroup group_;
  int layers_;
  std::uint64_t seed_;
  double capacity_factor_;
  AggregateSampler sampler_;
  std::unique_ptr<const Popularity> popularity_;
  bool even_;                                // every draw is the balanced one
  std::vector<ExpertPlacement> placements_;  // [layer]; empty without redundant experts
  std::vector<BiasHistory> bias_;            // [layer]; empty without the rule
  GroupLoad balanced_;
};

}  // namespace pipecast
