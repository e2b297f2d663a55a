/// How the choice of a group-limited gate answers to the popularity of groups.
#pragma once

#include <cstddef>
#include <vector>

#include "model/specs/model.hpp"

namespace pipecast {

/// Distribution of the number of experts that a token uses in a set of `together` groups whose
/// experts are `weight` times as popular as those of the other groups, all of which are equal.
///
/// Scores are those of model/routing/token_sampler.hpp. The best of a group of popularity W follow
/// each other like arrivals of a Poisson process of rate W, whoever their experts are; so tokens
/// are drawn as the arrival times of each group, once, in the constructor, and evaluated on a grid
/// of weights (common random numbers: the answer is smooth in the weight). Between grid points:
/// cubic interpolation in log(weight). At weight 1 the mean is made exact, which it is by symmetry.
class GroupResponse {
 public:
  /// @param together  of the model's n_group, at least one; one less than all at most
  GroupResponse(const ModelSpec& model, int together);

  /// Probabilities of 0, 1, ... num_experts_per_tok experts.
  /// @param out  num_experts_per_tok + 1 numbers
  void counts(double weight, double* out) const;

  /// Probability of no expert.
  [[nodiscard]] double unused(double weight) const;

  /// Mean of that number, and its derivative by the logarithm of the weight.
  struct Mean {
    double value = 0;
    double slope = 0;
  };
  [[nodiscard]] Mean mean(double weight) const;

  /// Mean distance to 1 of the score of the last expert used, all groups being equal.
  [[nodiscard]] double cut() const { return cut_; }

 private:
  struct Place {
    std::size_t first = 0;  ///< of four grid points
    double position = 0;    ///< 0 .. 1 between the second and the third
  };
  static Place place(double weight);

  std::size_t stride_;
  std::vector<double> counts_;  ///< [grid point][number of experts]
  std::vector<double> means_;   ///< [grid point]
  double cut_ = 0;
};

}  // namespace pipecast
