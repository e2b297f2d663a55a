#include <algorithm>

#include "base/error.hpp"
#include "base/registry.hpp"
#include "model/routing/popularity.hpp"

namespace pipecast {

namespace {

/// Recorded counts, used again from the start where a run is longer than the record. The counts of
/// a group of experts pass through the gate once more, which sharpens differences between groups:
/// Not modelled is the popularity that gave exactly the recorded counts.
class Trace : public Popularity {
 public:
  explicit Trace(const RecordedLoads& loads) : loads_(loads) {}

  void draw(int group, int layer, int micro_batch, std::vector<double>& weights) const override {
    weights.assign(static_cast<std::size_t>(loads_.experts), 0);
    add(micro_batch % loads_.steps, layer, group, weights);
    normalise(weights);
  }

  void mean(int layer, std::vector<double>& weights) const override {
    weights.assign(static_cast<std::size_t>(loads_.experts), 0);
    for (int step = 0; step < loads_.steps; ++step) {
      for (int group = 0; group < loads_.groups; ++group) add(step, layer, group, weights);
    }
    normalise(weights);
  }

 private:
  void add(int step, int layer, int group, std::vector<double>& weights) const {
    const int row =
        (step * loads_.layers + layer % loads_.layers) * loads_.groups + group % loads_.groups;
    // An expert that nobody used in a short record is rare, not impossible.
    constexpr double kRare = 0.5;
    for (std::size_t e = 0; e < weights.size(); ++e)
      weights[e] +=
          std::max(kRare, loads_.tokens[static_cast<std::size_t>(row) * weights.size() + e]);
  }

  RecordedLoads loads_;
};

std::unique_ptr<Popularity> make(const RoutingSpec&, const PopularityScope& scope) {
  require(scope.recorded != nullptr, "routing: the distribution trace needs recorded counts");
  const RecordedLoads& loads = *scope.recorded;
  require(loads.experts == scope.experts, "routing: the trace has {} experts, the model {}",
          loads.experts, scope.experts);
  const auto rows = static_cast<std::size_t>(loads.steps) * static_cast<std::size_t>(loads.layers) *
                    static_cast<std::size_t>(loads.groups);
  require(rows > 0 && loads.tokens.size() == rows * static_cast<std::size_t>(loads.experts),
          "routing: {} counts for {} steps, {} layers, {} groups and {} experts",
          loads.tokens.size(), loads.steps, loads.layers, loads.groups, loads.experts);
  return std::make_unique<Trace>(loads);
}

const Register<PopularityKind> kEntry{"trace", {make}};

}  // namespace

}  // namespace pipecast
