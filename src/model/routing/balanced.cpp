#include "model/routing/balanced.hpp"

#include <algorithm>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"

namespace pipecast {

namespace {

/// Draws tokens and picks their experts as the model's gate does.
class Gate {
 public:
  explicit Gate(const ModelSpec& model)
      : groups_(static_cast<std::size_t>(model.n_group)),
        group_size_(static_cast<std::size_t>(model.n_routed_experts / model.n_group)),
        kept_groups_(static_cast<std::size_t>(model.topk_group)),
        top_k_(static_cast<std::size_t>(model.num_experts_per_tok)),
        scores_(groups_ * group_size_) {}

  /// Experts of the next token, in no particular order.
  const std::vector<std::size_t>& next() {
    for (double& score : scores_) score = random_.uniform();
    keep_best_groups();
    candidates_.clear();
    for (std::size_t g = 0; g < kept_groups_; ++g) {
      for (std::size_t e = 0; e < group_size_; ++e)
        candidates_.push_back(order_[g] * group_size_ + e);
    }
    const auto higher = [this](std::size_t a, std::size_t b) { return scores_[a] > scores_[b]; };
    std::nth_element(candidates_.begin(),
                     candidates_.begin() + static_cast<std::ptrdiff_t>(top_k_ - 1),
                     candidates_.end(), higher);
    candidates_.resize(top_k_);
    return candidates_;
  }

 private:
  void keep_best_groups() {
    order_.resize(groups_);
    group_scores_.resize(groups_);
    for (std::size_t g = 0; g < groups_; ++g) {
      order_[g] = g;
      double first = 0;
      double second = 0;
      for (std::size_t e = g * group_size_; e < (g + 1) * group_size_; ++e) {
        second = std::max(second, std::min(first, scores_[e]));
        first = std::max(first, scores_[e]);
      }
      group_scores_[g] = first + second;
    }
    std::sort(order_.begin(), order_.end(),
              [this](std::size_t a, std::size_t b) { return group_scores_[a] > group_scores_[b]; });
  }

  std::size_t groups_;
  std::size_t group_size_;
  std::size_t kept_groups_;
  std::size_t top_k_;
  std::vector<double> scores_;
  std::vector<double> group_scores_;
  std::vector<std::size_t> order_;
  std::vector<std::size_t> candidates_;
  Random random_{0, "balanced-routing"};
};

/// Counts distinct values of `owner(expert)`; `marks` remembers the last token that met each owner.
template <class Owner>
int count_distinct(const std::vector<std::size_t>& experts, int token, std::vector<int>& marks,
                   Owner owner) {
  int distinct = 0;
  for (const std::size_t expert : experts) {
    int& mark = marks[owner(expert)];
    distinct += mark != token ? 1 : 0;
    mark = token;
  }
  return distinct;
}

}  // namespace

RoutingStatistics balanced_routing(const ModelSpec& model, int ep, int gpus_per_node) {
  require(ep > 0 && gpus_per_node > 0 && model.n_routed_experts % ep == 0,
          "balanced routing: {} experts do not divide over ep={} GPUs", model.n_routed_experts, ep);
  constexpr int kTokens = 1024;
  const auto experts_per_gpu = static_cast<std::size_t>(model.n_routed_experts / ep);
  const auto experts_per_node = experts_per_gpu * static_cast<std::size_t>(gpus_per_node);
  const auto owners = static_cast<std::size_t>(ep);
  std::vector<int> gpu_marks(owners, -1);
  std::vector<int> node_marks(owners, -1);
  Gate gate(model);
  std::int64_t gpus = 0;
  std::int64_t nodes = 0;
  for (int token = 0; token < kTokens; ++token) {
    const std::vector<std::size_t>& experts = gate.next();
    gpus += count_distinct(experts, token, gpu_marks,
                           [=](std::size_t e) { return e / experts_per_gpu; });
    nodes += count_distinct(experts, token, node_marks,
                            [=](std::size_t e) { return e / experts_per_node; });
  }
  return {.nodes_per_token = static_cast<double>(nodes) / kTokens,
          .gpus_per_token = static_cast<double>(gpus) / kTokens};
}

}  // namespace pipecast
