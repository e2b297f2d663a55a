/// The gate of a mixture-of-experts layer: which experts a token with given scores uses.
#pragma once

#include <cstddef>
#include <vector>

#include "model/specs/model.hpp"

namespace pipecast {

/// Group-limited top-k: the score of a group is the sum of its two highest scores, the best
/// topk_group of n_group groups are kept, the best num_experts_per_tok experts of those are used.
/// Source: DeepSeek-V3 Technical Report (arXiv 2412.19437), section 2.1.2 and the published
/// inference code.
class Gate {
 public:
  /// @throws Error if the model's numbers fit no gate
  explicit Gate(const ModelSpec& model);

  /// Experts of a token, in no particular order; valid until the next call.
  /// @param scores  one for each expert, the bias of its selection added
  const std::vector<std::size_t>& select(const std::vector<double>& scores);

  [[nodiscard]] std::size_t experts() const { return groups_ * group_size_; }

 private:
  void rank_groups(const std::vector<double>& scores);

  std::size_t groups_;
  std::size_t group_size_;
  std::size_t kept_groups_;
  std::size_t top_k_;
  std::vector<double> group_scores_;
  std::vector<std::size_t> order_;
  std::vector<std::size_t> candidates_;
};

}  // namespace pipecast
