#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/registry.hpp"
#include "model/routing/popularity.hpp"

namespace pipecast {

namespace {

/// The logarithm of an expert's popularity is a sum over topics of how present the topic is in the
/// micro-batch and how much the expert likes it:
///   log w = spread / sqrt(topics) * sum over k of z_k(group, micro-batch) v_k(layer, expert).
/// z_k follows an autoregression of order 1 over micro-batches, v_k one over layers, both
/// stationary with variance 1; so the correlation of log w is the product of both drifts' powers,
/// and its standard deviation is `spread`.
class Topics : public Popularity {
 public:
  Topics(const RoutingSpec& spec, const PopularityScope& scope)
      : scope_(scope),
        topics_(static_cast<std::size_t>(spec.topics)),
        drift_(spec.drift_micro_batch),
        scale_(spec.spread.value / std::sqrt(static_cast<double>(spec.topics))),
        memory_(memory(spec.drift_micro_batch)) {
    const auto per_layer = static_cast<std::size_t>(scope.experts) * topics_;
    likings_.resize(static_cast<std::size_t>(scope.layers) * per_layer);
    Random random(scope.seed, "topic-likings");
    const double fresh = std::sqrt(1 - spec.drift_layer * spec.drift_layer);
    for (std::size_t i = 0; i < likings_.size(); ++i) {
      likings_[i] = i < per_layer
                        ? random.normal()
                        : spec.drift_layer * likings_[i - per_layer] + fresh * random.normal();
    }
  }

  void draw(int group, int layer, int micro_batch, std::vector<double>& weights) const override {
    const std::vector<double> present = presence(group, micro_batch);
    weights.resize(static_cast<std::size_t>(scope_.experts));
    const double* liking = &likings_[static_cast<std::size_t>(layer) * weights.size() * topics_];
    for (double& w : weights) {
      double sum = 0;
      for (std::size_t k = 0; k < topics_; ++k) sum += present[k] * liking[k];
      w = std::exp(scale_ * sum);
      liking += topics_;
    }
    normalise(weights);
  }

  /// E[exp(x)] = exp(variance / 2) of the normal x that the topics' presence makes.
  void mean(int layer, std::vector<double>& weights) const override {
    weights.resize(static_cast<std::size_t>(scope_.experts));
    const double* liking = &likings_[static_cast<std::size_t>(layer) * weights.size() * topics_];
    for (double& w : weights) {
      double squares = 0;
      for (std::size_t k = 0; k < topics_; ++k) squares += liking[k] * liking[k];
      w = std::exp(scale_ * scale_ * squares / 2);
      liking += topics_;
    }
    normalise(weights);
  }

 private:
  /// Micro-batches after which a millionth is left of a correlation.
  static int memory(double drift) {
    constexpr double kForgotten = 1e-6;
    constexpr double kLongest = 1e4;
    if (drift <= 0) return 0;
    if (drift >= 1) return static_cast<int>(kLongest);
    return static_cast<int>(std::min(kLongest, std::ceil(std::log(kForgotten) / std::log(drift))));
  }

  /// The chain from far enough back: a function of group and micro-batch alone.
  [[nodiscard]] std::vector<double> presence(int group, int micro_batch) const {
    std::vector<double> present(topics_);
    const double fresh = std::sqrt(1 - drift_ * drift_);
    const int start = std::max(0, micro_batch - memory_);
    for (int m = start; m <= micro_batch; ++m) {
      Random random = draw_generator(scope_.seed, "topic-presence", group, 0, m);
      for (double& z : present) {
        const double news = random.normal();
        z = m == start ? news : drift_ * z + fresh * news;
      }
    }
    return present;
  }

  PopularityScope scope_;
  std::size_t topics_;
  double drift_;
  double scale_;
  int memory_;
  std::vector<double> likings_;  // [layer][expert][topic]
};

std::unique_ptr<Popularity> make(const RoutingSpec& spec, const PopularityScope& scope) {
  require(spec.topics > 0, "routing: topics needs at least one topic, not {}", spec.topics);
  return std::make_unique<Topics>(spec, scope);
}

const Register<PopularityKind> kEntry{"topics", {make}};

}  // namespace

}  // namespace pipecast
