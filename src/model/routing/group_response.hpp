/// How the choice of a group-limited gate answers to the popularity of groups.
#pragma once

#include <cstddef>
#include <vector>

#include "model/specs/model.hpp"

namespace pipecast {

/// What a token uses of a set of `together` groups whose experts are `weight` times as popular as
/// those of the other groups, all of which are equal.
///
/// Scores are those of model/routing/token_sampler.hpp. The best of a group of popularity W follow
/// each other like arrivals of a Poisson process of rate W, whoever their experts are; so tokens
/// are drawn as the arrival times of each group, once, in the constructor, and evaluated on a grid
/// of weights (common random numbers: the answer is smooth in the weight). At weight 1 every group
/// of a token serves as the set, which makes the means exact; what that changes is carried over to
/// the other weights. Between grid points: cubic interpolation in log(weight).
class GroupResponse {
 public:
  /// @param together  of the model's n_group; one less than all at most
  GroupResponse(const ModelSpec& model, int together);

  /// A number and its derivative by the logarithm of the weight.
  struct Answer {
    double value = 0;
    double slope = 0;
  };
  /// Probability that the gate keeps a group of the set.
  [[nodiscard]] Answer kept(double weight) const { return at(kept_, weight); }
  /// Mean number of the set's experts that a token uses, given that a group is kept.
  [[nodiscard]] Answer mean(double weight) const { return at(means_, weight); }

  /// Probabilities of 0, 1, ... num_experts_per_tok experts, given the same.
  /// @param out  num_experts_per_tok + 1 numbers
  void counts(double weight, double* out) const;

  /// Probability that a token uses none of the set's experts.
  [[nodiscard]] double unused(double weight) const;

  /// Mean distance to 1 of the score of the last expert used, all groups being equal.
  [[nodiscard]] double cut() const { return cut_; }

 private:
  [[nodiscard]] static Answer at(const std::vector<double>& table, double weight);
  void evaluate(const ModelSpec& model, std::size_t together, std::vector<double>& even);
  void carry_over(const std::vector<double>& even);

  std::size_t stride_;
  std::vector<double> kept_;    ///< [grid point]
  std::vector<double> counts_;  ///< [grid point][number of experts]
  std::vector<double> means_;   ///< [grid point]
  double cut_ = 0;
};

}  // namespace pipecast
