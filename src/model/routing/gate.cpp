#include "model/routing/gate.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace pipecast {

Gate::Gate(const ModelSpec& model)
    : groups_(static_cast<std::size_t>(model.n_group)),
      group_size_(static_cast<std::size_t>(model.n_routed_experts / model.n_group)),
      kept_groups_(static_cast<std::size_t>(model.topk_group)),
      top_k_(static_cast<std::size_t>(model.num_experts_per_tok)) {
  require(model.n_routed_experts % model.n_group == 0,
          "gate: {} experts do not divide over {} groups", model.n_routed_experts, model.n_group);
  require(model.topk_group > 0 && model.topk_group <= model.n_group,
          "gate: topk_group={} of n_group={}", model.topk_group, model.n_group);
  require(top_k_ > 0 && top_k_ <= kept_groups_ * group_size_,
          "gate: {} groups of {} experts do not hold {} for a token", kept_groups_, group_size_,
          top_k_);
}

const std::vector<std::size_t>& Gate::select(const std::vector<double>& scores) {
  rank_groups(scores);
  candidates_.clear();
  for (std::size_t g = 0; g < kept_groups_; ++g) {
    for (std::size_t e = 0; e < group_size_; ++e)
      candidates_.push_back(order_[g] * group_size_ + e);
  }
  const auto higher = [&scores](std::size_t a, std::size_t b) { return scores[a] > scores[b]; };
  std::nth_element(candidates_.begin(),
                   candidates_.begin() + static_cast<std::ptrdiff_t>(top_k_ - 1), candidates_.end(),
                   higher);
  candidates_.resize(top_k_);
  return candidates_;
}

void Gate::rank_groups(const std::vector<double>& scores) {
  order_.resize(groups_);
  group_scores_.resize(groups_);
  for (std::size_t g = 0; g < groups_; ++g) {
    order_[g] = g;
    double first = scores[g * group_size_];
    double second = 0;  // of a group with a single expert
    for (std::size_t i = 1; i < group_size_; ++i) {
      const double score = scores[g * group_size_ + i];
      second = i == 1 ? std::min(first, score) : std::max(second, std::min(first, score));
      first = std::max(first, score);
    }
    group_scores_[g] = first + second;
  }
  std::sort(order_.begin(), order_.end(),
            [this](std::size_t a, std::size_t b) { return group_scores_[a] > group_scores_[b]; });
}

}  // namespace pipecast
