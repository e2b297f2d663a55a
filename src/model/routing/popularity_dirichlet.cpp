#include <cmath>

#include "base/error.hpp"
#include "base/registry.hpp"
#include "model/routing/fast_normal.hpp"
#include "model/routing/popularity.hpp"

namespace pipecast {

namespace {

/// Gamma variate of mean `shape` (Marsaglia and Tsang 2000, "A simple method for generating gamma
/// variables"; below 1 by their section 6).
double gamma(Random& random, double shape) {
  const double boosted = shape < 1 ? shape + 1 : shape;
  const double d = boosted - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = fast_normal(random);
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double u = random.uniform();
    const double x2 = x * x;
    constexpr double kSqueeze = 0.0331;
    if (u < 1 - kSqueeze * x2 * x2 || std::log(u) < 0.5 * x2 + d * (1 - v + std::log(v)))
      return shape < 1 ? d * v * std::pow(1 - random.uniform(), 1 / shape) : d * v;
  }
}

/// Symmetric Dirichlet, drawn anew for every group, layer and micro-batch: what is left uneven in a
/// micro-batch because sequences have topics, while the whole batch is even.
class Dirichlet : public Popularity {
 public:
  Dirichlet(double concentration, const PopularityScope& scope)
      : concentration_(concentration), scope_(scope) {}

  void draw(int group, int layer, int micro_batch, std::vector<double>& weights) const override {
    Random random = draw_generator(scope_.seed, "dirichlet", group, layer, micro_batch);
    weights.resize(static_cast<std::size_t>(scope_.experts));
    for (double& w : weights) w = gamma(random, concentration_);
    normalise(weights);
  }
  void mean(int, std::vector<double>& weights) const override {
    weights.assign(static_cast<std::size_t>(scope_.experts), 1);
  }

 private:
  double concentration_;
  PopularityScope scope_;
};

std::unique_ptr<Popularity> make(const RoutingSpec& spec, const PopularityScope& scope) {
  require(spec.concentration.value > 0, "routing: dirichlet needs a positive concentration, not {}",
          spec.concentration.value);
  return std::make_unique<Dirichlet>(spec.concentration.value, scope);
}

const Register<PopularityKind> kEntry{"dirichlet", {make}};

}  // namespace

}  // namespace pipecast
