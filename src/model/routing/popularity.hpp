/// How popular experts are, before the gate: what differs between micro-batches and layers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/random.hpp"
#include "model/specs/routing.hpp"

namespace pipecast {

/// Counts of tokens that used an expert, as traces/routing/README.md describes them.
struct RecordedLoads {
  int steps = 0;  ///< stand for micro-batches
  int layers = 0;
  int groups = 0;
  int experts = 0;
  std::vector<double> tokens;  ///< [step][layer][group][expert]
};

/// What a popularity is drawn for.
struct PopularityScope {
  int experts = 0;
  int layers = 0;  ///< mixture-of-experts layers, those of multi-token prediction last
  std::uint64_t seed = 0;
  const RecordedLoads* recorded = nullptr;  ///< trace; copied
};

/// A popularity is a weight relative to the mean of 1: the rate at which an expert comes up near
/// the top of the scores.
class Popularity {
 public:
  Popularity() = default;
  virtual ~Popularity() = default;
  Popularity(const Popularity&) = delete;
  Popularity& operator=(const Popularity&) = delete;

  /// Weights of all experts, a function of its arguments alone.
  virtual void draw(int group, int layer, int micro_batch, std::vector<double>& weights) const = 0;

  /// Weights over a whole batch, to which the bias rule answers.
  virtual void mean(int layer, std::vector<double>& weights) const = 0;
};

/// One way to draw it, in a file and registered under a name of its own.
struct PopularityKind {
  std::unique_ptr<Popularity> (*make)(const RoutingSpec&, const PopularityScope&) = nullptr;
};

/// The generator of one draw.
Random draw_generator(std::uint64_t seed, std::string_view purpose, int group, int layer,
                      int micro_batch);

/// Scales weights to a mean of 1.
void normalise(std::vector<double>& weights);

}  // namespace pipecast
