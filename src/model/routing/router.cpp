#include "model/routing/router.hpp"

#include "base/assert.hpp"
#include "base/registry.hpp"

namespace pipecast {

Router::Router(const ModelSpec& model, const RoutingSpec& spec, const RoutingGroup& group,
               std::uint64_t seed)
    : group_(group),
      layers_(static_cast<int>(model.moe_layers() + model.num_nextn_predict_layers)),
      seed_(seed),
      capacity_factor_(spec.capacity_factor),
      sampler_(model, group),
      popularity_(Registry<PopularityKind>::instance()
                      .find(spec.distribution)
                      .make(spec, {.experts = static_cast<int>(model.n_routed_experts),
                                   .layers = layers_,
                                   .seed = seed})),
      balanced_(sampler_.sample(
          std::vector<double>(static_cast<std::size_t>(model.n_routed_experts), 1), 0, nullptr)) {}

std::vector<double> Router::popularity(int group, int layer, int micro_batch) const {
  PIPECAST_ASSERT(group >= 0 && layer >= 0 && layer < layers_ && micro_batch >= 0);
  std::vector<double> weights;
  popularity_->draw(group, layer, micro_batch, weights);
  return weights;
}

GroupLoad Router::draw(int group, int layer, int micro_batch) const {
  Random random = draw_generator(seed_, "routing", group, layer, micro_batch);
  return sampler_.sample(popularity(group, layer, micro_batch), capacity_factor_, &random);
}

}  // namespace pipecast
