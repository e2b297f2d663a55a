#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/gate.hpp"
#include "kernels/reference/swiglu.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

namespace {

constexpr GateSettings kSmall = {
    .experts = 12, .groups = 4, .chosen_groups = 2, .chosen_experts = 3, .scaling = 2.5};

}  // namespace

TEST_CASE("a token's experts are the best of its best groups", "[reference]") {
  const Matrix scores = random_matrix("logits", 50, 12).unaryExpr(&sigmoid);
  const Vector bias = 0.3 * random_vector("bias", 12);
  const IndexMatrix experts = select_experts(scores, bias, kSmall);
  for (Index token = 0; token < 50; ++token) {
    const auto biased = [&](Index expert) { return scores(token, expert) + bias(expert); };
    const auto group_score = [&](Index group) {  // of three: all but the least
      const double a = biased(3 * group);
      const double b = biased(3 * group + 1);
      const double c = biased(3 * group + 2);
      return a + b + c - std::min({a, b, c});
    };
    const std::set<Index> chosen(experts.row(token).begin(), experts.row(token).end());
    REQUIRE(chosen.size() == 3);
    std::set<Index> groups;
    for (const Index expert : chosen) groups.insert(expert / 3);
    REQUIRE(groups.size() <= 2);
    for (const Index group : groups) {
      int better = 0;
      for (Index other = 0; other < 4; ++other) better += group_score(other) > group_score(group);
      REQUIRE(better < 2);
    }
    const double least = biased(experts(token, 2));
    for (Index expert = 0; expert < 12; ++expert) {
      const bool of_chosen_groups = groups.size() == 2 && groups.count(expert / 3) == 1;
      if (of_chosen_groups && chosen.count(expert) == 0) REQUIRE(biased(expert) < least);
    }
    REQUIRE(biased(experts(token, 0)) >= biased(experts(token, 1)));
    REQUIRE(biased(experts(token, 1)) >= least);
  }
}

TEST_CASE("a group with the single best expert loses to one with the better pair", "[reference]") {
  const GateSettings settings = {
      .experts = 6, .groups = 2, .chosen_groups = 1, .chosen_experts = 2};
  const Matrix scores{{0.9, 0.1, 0.1, 0.6, 0.5, 0.6}};
  REQUIRE(select_experts(scores, Vector::Zero(6), settings) == IndexMatrix{{3, 5}});
}

TEST_CASE("equal scores choose the lower index, of groups and of experts", "[reference]") {
  const IndexMatrix experts =
      select_experts(Matrix::Constant(2, 12, 0.5), Vector::Zero(12), kSmall);
  REQUIRE(experts == IndexMatrix{{0, 1, 2}, {0, 1, 2}});
}

TEST_CASE("negative biased scores of chosen groups still beat every other group", "[reference]") {
  const GateSettings settings = {
      .experts = 4, .groups = 2, .chosen_groups = 1, .chosen_experts = 2};
  const Vector bias{{-9, -9, -2, -3}};
  const IndexMatrix experts = select_experts(Matrix::Constant(1, 4, 0.5), bias, settings);
  REQUIRE(experts == IndexMatrix{{2, 3}});
}

TEST_CASE("the bias selects but weighs nothing; weights add up to the scaling", "[reference]") {
  const Matrix logits = random_matrix("logits", 9, 12);
  Vector bias = Vector::Zero(12);
  bias(7) = 10;  // more than any score
  const GateResult result = gate_forward(logits, bias, kSmall);
  for (Index token = 0; token < 9; ++token) {
    REQUIRE(result.experts(token, 0) == 7);
    REQUIRE(result.weights.row(token).sum() == Approx(2.5));
    for (Index slot = 1; slot < 3; ++slot) {
      REQUIRE(
          result.weights(token, slot) / result.weights(token, 0) ==
          Approx(sigmoid(logits(token, result.experts(token, slot))) / sigmoid(logits(token, 7))));
    }
  }
}

TEST_CASE("weights stay finite at infinite logits", "[reference]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const GateSettings settings = {.experts = 2, .chosen_experts = 2, .scaling = 2.5};
  REQUIRE(gate_forward(Matrix{{-kInfinity, -kInfinity}}, Vector::Zero(2), settings).weights ==
          Matrix{{0, 0}});
  REQUIRE(gate_forward(Matrix{{-kInfinity, kInfinity}}, Vector::Zero(2), settings).weights ==
          Matrix{{2.5, 0}});
}

TEST_CASE("gradients of routing weights are their slopes, with the choice held", "[reference]") {
  Matrix logits = random_matrix("logits", 5, 12);
  const Vector bias = 0.3 * random_vector("bias", 12);
  const Matrix of_weights = random_matrix("gradient", 5, 3);
  const GateResult result = gate_forward(logits, bias, kSmall);
  const Matrix expected = slopes(logits, [&] {
    return weighted_sum(routing_weights(logits.unaryExpr(&sigmoid), result.experts, kSmall),
                        of_weights);
  });
  REQUIRE(relative_error(gate_backward(result, of_weights, kSmall), expected) < kSlopeTolerance);
}

TEST_CASE("the bias moves by one speed towards the mean load and stands on it", "[reference]") {
  const Indices loads = expert_loads(IndexMatrix{{0, 1}, {0, 2}, {0, 1}}, 3);
  REQUIRE(loads == Indices{3, 2, 1});
  const Vector bias{{0.5, 0.5, 0.5}};
  REQUIRE(updated_bias(bias, loads, 0.001) == Vector{{0.5 - 0.001, 0.5, 0.5 + 0.001}});
  REQUIRE_THROWS_WITH(updated_bias(bias, {1, 2}, 0.001), Contains("2 loads, 3 biases"));
  REQUIRE_THROWS_WITH(expert_loads(IndexMatrix{{3}}, 3), Contains("expert 3 of 3"));
}

TEST_CASE("the gate refuses settings that cannot choose", "[reference]") {
  const Matrix scores = Matrix::Zero(1, 12);
  const Vector bias = Vector::Zero(12);
  GateSettings settings = kSmall;
  settings.chosen_experts = 7;
  REQUIRE_THROWS_WITH(select_experts(scores, bias, settings), Contains("7 chosen experts of 6"));
  settings = kSmall;
  settings.groups = 5;
  REQUIRE_THROWS_WITH(select_experts(scores, bias, settings), Contains("12 experts in 5 groups"));
  settings = kSmall;
  settings.chosen_groups = 5;
  REQUIRE_THROWS_WITH(select_experts(scores, bias, settings), Contains("5 chosen groups of 4"));
  REQUIRE_THROWS_WITH(gate_forward(Matrix::Constant(1, 12, std::nan("")), bias, kSmall),
                      Contains("score of token 0 is not a number"));
}
