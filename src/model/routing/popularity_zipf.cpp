#include <cmath>
#include <utility>

#include "base/registry.hpp"
#include "model/routing/popularity.hpp"

namespace pipecast {

namespace {

/// Popularity falls with rank^-exponent. Who has which rank is drawn for every layer and stays for
/// all groups and micro-batches: a gate that is skewed as a whole.
class Zipf : public Popularity {
 public:
  Zipf(double exponent, const PopularityScope& scope) : scope_(scope) {
    falling_.resize(static_cast<std::size_t>(scope.experts));
    for (std::size_t rank = 0; rank < falling_.size(); ++rank)
      falling_[rank] = std::pow(static_cast<double>(rank + 1), -exponent);
    normalise(falling_);
  }

  void draw(int, int layer, int, std::vector<double>& weights) const override {
    Random random = draw_generator(scope_.seed, "zipf", 0, layer, 0);
    weights = falling_;
    for (std::size_t left = weights.size(); left > 1; --left)  // Fisher and Yates
      std::swap(weights[left - 1], weights[random.below(left)]);
  }
  void mean(int layer, std::vector<double>& weights) const override { draw(0, layer, 0, weights); }

 private:
  PopularityScope scope_;
  std::vector<double> falling_;
};

std::unique_ptr<Popularity> make(const RoutingSpec& spec, const PopularityScope& scope) {
  return std::make_unique<Zipf>(spec.exponent.value, scope);
}

const Register<PopularityKind> kEntry{"zipf", {make}};

}  // namespace

}  // namespace pipecast
