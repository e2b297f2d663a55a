#include "kernels/reference/gate.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/error.hpp"
#include "kernels/reference/swiglu.hpp"

namespace pipecast::kernels::reference {
namespace {

// Keeps the quotient finite where every chosen score is zero (modeling_deepseek.py of DeepSeek-V3).
constexpr double kSmallestSum = 1e-20;

// Section 2.1.2 sums a group's highest scores, as many as chosen experts over chosen groups: 8 / 4;
// the published code (model.py of DeepSeek-V3) has this number for every setting.
constexpr Index kScoresOfGroup = 2;

void check(const GateSettings& settings) {
  require(settings.groups > 0 && settings.experts > 0 && settings.experts % settings.groups == 0,
          "{} experts in {} groups", settings.experts, settings.groups);
  require(settings.chosen_groups > 0 && settings.chosen_groups <= settings.groups,
          "{} chosen groups of {}", settings.chosen_groups, settings.groups);
  const Index eligible = settings.experts / settings.groups * settings.chosen_groups;
  require(settings.chosen_experts > 0 && settings.chosen_experts <= eligible,
          "{} chosen experts of {} in the chosen groups", settings.chosen_experts, eligible);
}

/// Candidates in the order of falling score, of equal ones the lower index first.
Indices ranked(Indices candidates, const std::function<double(Index)>& score) {
  std::sort(candidates.begin(), candidates.end(),
            [&](Index a, Index b) { return score(a) != score(b) ? score(a) > score(b) : a < b; });
  return candidates;
}

Indices range(Index first, Index count) {
  Indices out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), first);
  return out;
}

Indices experts_of_token(const Vector& biased, const GateSettings& settings) {
  const Index group_size = settings.experts / settings.groups;
  const auto score = [&](Index expert) { return biased(expert); };
  std::vector<double> group_scores;
  for (Index group = 0; group < settings.groups; ++group) {
    const Indices best = ranked(range(group * group_size, group_size), score);
    double sum = 0;
    for (Index i = 0; i < std::min(kScoresOfGroup, group_size); ++i) {
      sum += biased(best[static_cast<std::size_t>(i)]);
    }
    group_scores.push_back(sum);
  }
  const Indices groups = ranked(range(0, settings.groups), [&](Index group) {
    return group_scores[static_cast<std::size_t>(group)];
  });
  Indices eligible;
  for (Index i = 0; i < settings.chosen_groups; ++i) {
    const Indices members = range(groups[static_cast<std::size_t>(i)] * group_size, group_size);
    eligible.insert(eligible.end(), members.begin(), members.end());
  }
  Indices chosen = ranked(eligible, score);
  chosen.resize(static_cast<std::size_t>(settings.chosen_experts));
  return chosen;
}

double sum_of_chosen(const Matrix& scores, const IndexMatrix& experts, Index token) {
  double sum = kSmallestSum;
  for (Index slot = 0; slot < experts.cols(); ++slot) sum += scores(token, experts(token, slot));
  return sum;
}

}  // namespace

IndexMatrix select_experts(const Matrix& scores, const Vector& bias, const GateSettings& settings) {
  check(settings);
  require_extents("scores", scores, scores.rows(), settings.experts);
  require_length("bias", bias, settings.experts);
  IndexMatrix chosen(scores.rows(), settings.chosen_experts);
  for (Index token = 0; token < scores.rows(); ++token) {
    const Vector biased = scores.row(token).transpose() + bias;
    require(!biased.hasNaN(), "a biased score of token {} is not a number", token);
    const Indices experts = experts_of_token(biased, settings);
    for (Index slot = 0; slot < chosen.cols(); ++slot) {
      chosen(token, slot) = experts[static_cast<std::size_t>(slot)];
    }
  }
  return chosen;
}

Matrix routing_weights(const Matrix& scores, const IndexMatrix& experts,
                       const GateSettings& settings) {
  require_extents("experts", experts, scores.rows(), settings.chosen_experts);
  Matrix weights(experts.rows(), experts.cols());
  for (Index token = 0; token < weights.rows(); ++token) {
    const double sum = sum_of_chosen(scores, experts, token);
    for (Index slot = 0; slot < weights.cols(); ++slot) {
      weights(token, slot) = settings.scaling * scores(token, experts(token, slot)) / sum;
    }
  }
  return weights;
}

GateResult gate_forward(const Matrix& logits, const Vector& bias, const GateSettings& settings) {
  GateResult result;
  result.scores = logits.unaryExpr(&sigmoid);
  result.experts = select_experts(result.scores, bias, settings);
  result.weights = routing_weights(result.scores, result.experts, settings);
  return result;
}

Matrix gate_backward(const GateResult& result, const Matrix& weight_gradient,
                     const GateSettings& settings) {
  require_extents("weight gradient", weight_gradient, result.experts.rows(), result.experts.cols());
  Matrix gradient = Matrix::Zero(result.scores.rows(), result.scores.cols());
  for (Index token = 0; token < gradient.rows(); ++token) {
    const double sum = sum_of_chosen(result.scores, result.experts, token);
    // Every weight holds the sum: its slope is -weight / sum.
    const double of_sum = -weight_gradient.row(token).dot(result.weights.row(token)) / sum;
    for (Index slot = 0; slot < result.experts.cols(); ++slot) {
      const Index expert = result.experts(token, slot);
      const double score = result.scores(token, expert);
      gradient(token, expert) =
          (settings.scaling * weight_gradient(token, slot) / sum + of_sum) * score * (1 - score);
    }
  }
  return gradient;
}

Indices expert_loads(const IndexMatrix& experts, Index expert_count) {
  Indices loads(static_cast<std::size_t>(expert_count), 0);
  for (Index token = 0; token < experts.rows(); ++token) {
    for (Index slot = 0; slot < experts.cols(); ++slot) {
      const Index expert = experts(token, slot);
      require(expert >= 0 && expert < expert_count, "expert {} of {}", expert, expert_count);
      ++loads[static_cast<std::size_t>(expert)];
    }
  }
  return loads;
}

Vector updated_bias(const Vector& bias, const Indices& loads, double speed) {
  require(static_cast<Index>(loads.size()) == bias.size(), "{} loads, {} biases", loads.size(),
          bias.size());
  const auto experts = static_cast<Index>(loads.size());
  const Index total = std::accumulate(loads.begin(), loads.end(), Index{0});
  Vector out = bias;
  for (Index expert = 0; expert < experts; ++expert) {
    // In whole numbers, so that a load equal to the mean is seen as equal.
    const Index above = loads[static_cast<std::size_t>(expert)] * experts - total;
    if (above < 0) out(expert) += speed;
    if (above > 0) out(expert) -= speed;
  }
  return out;
}

}  // namespace pipecast::kernels::reference
