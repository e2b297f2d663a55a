#include "model/routing/router.hpp"

#include "base/assert.hpp"
#include "base/registry.hpp"

namespace pipecast {

namespace {

PopularityScope scope_of(const ModelSpec& model, std::uint64_t seed,
                         const RecordedLoads* recorded) {
  return {.experts = static_cast<int>(model.n_routed_experts),
          .layers = static_cast<int>(model.moe_layers() + model.num_nextn_predict_layers),
          .seed = seed,
          .recorded = recorded};
}

}  // namespace

Router::Router(const ModelSpec& model, const RoutingSpec& spec, const RoutingGroup& group,
               std::uint64_t seed, const RecordedLoads* recorded)
    : group_(group),
      layers_(scope_of(model, seed, recorded).layers),
      seed_(seed),
      capacity_factor_(spec.capacity_factor),
      sampler_(model, group),
      popularity_(Registry<PopularityKind>::instance()
                      .find(spec.distribution)
                      .make(spec, scope_of(model, seed, recorded))),
      even_(spec.distribution == "balanced" && capacity_factor_ == 0 &&
            spec.redundant_experts == 0) {
  const auto experts = static_cast<std::size_t>(model.n_routed_experts);
  balanced_ = sampler_.sample(std::vector<double>(experts, 1), 0, nullptr);
  if (even_) return;
  std::vector<double> weights;
  for (int layer = 0; layer < layers_; ++layer) {
    popularity_->mean(layer, weights);
    if (spec.bias.steps > 0) bias_.push_back(run_bias_rule(sampler_, weights, spec.bias));
    if (spec.redundant_experts == 0) continue;
    placements_.push_back(place_experts(sampler_.expect(biased(layer, weights)).experts,
                                        static_cast<int>(sampler_.groups()), group.gpus,
                                        group.nodes(), spec.redundant_experts));
  }
}

std::vector<double> Router::biased(int layer, std::vector<double> weights) const {
  return bias_.empty() ? weights : biased_weights(sampler_, weights, bias(layer).bias);
}

std::vector<double> Router::popularity(int group, int layer, int micro_batch) const {
  PIPECAST_ASSERT(group >= 0 && layer >= 0 && layer < layers_ && micro_batch >= 0);
  std::vector<double> weights;
  popularity_->draw(group, layer, micro_batch, weights);
  return weights;
}

const BiasHistory& Router::bias(int layer) const {
  PIPECAST_ASSERT(!bias_.empty());
  return bias_.at(static_cast<std::size_t>(layer));
}

GroupLoad Router::draw(int group, int layer, int micro_batch) const {
  if (even_) return balanced_;
  Random random = draw_generator(seed_, "routing", group, layer, micro_batch);
  const std::vector<double> weights = biased(layer, popularity(group, layer, micro_batch));
  const ExpertPlacement* const placed = placement(layer);
  if (placed == nullptr) return sampler_.sample(weights, capacity_factor_, &random);
  std::vector<double> moved;
  const std::size_t size = weights.size() / placed->group_order.size();
  for (const std::size_t from : placed->group_order) {
    const auto begin = weights.begin() + static_cast<std::ptrdiff_t>(from * size);
    moved.insert(moved.end(), begin, begin + static_cast<std::ptrdiff_t>(size));
  }
  return sampler_.sample(moved, capacity_factor_, &random, placed);
}

}  // namespace pipecast
