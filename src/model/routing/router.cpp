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
      even_(spec.distribution == "balanced" && capacity_factor_ == 0) {
  const auto experts = static_cast<std::size_t>(model.n_routed_experts);
  balanced_ = sampler_.sample(std::vector<double>(experts, 1), 0, nullptr);
  if (spec.bias.steps == 0 || even_) return;
  std::vector<double> weights;
  for (int layer = 0; layer < layers_; ++layer) {
    popularity_->mean(layer, weights);
    bias_.push_back(run_bias_rule(sampler_, weights, spec.bias));
  }
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
  std::vector<double> weights = popularity(group, layer, micro_batch);
  if (!bias_.empty()) weights = biased_weights(sampler_, weights, bias(layer).bias);
  return sampler_.sample(weights, capacity_factor_, &random);
}

}  // namespace pipecast
