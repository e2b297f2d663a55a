// What stands at the ends of the model and of the step: embedding, loss, MTP projection, optimizer.
#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/cross_entropy.hpp"
#include "kernels/reference/embedding.hpp"
#include "kernels/reference/mtp.hpp"
#include "kernels/reference/optimizer.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

TEST_CASE("the gradient of an embedding adds up over a token's occurrences", "[reference]") {
  Matrix table = random_matrix("table", 5, 3);
  const Indices tokens{4, 0, 4, 2};
  const Matrix out = embedding_forward(table, tokens);
  REQUIRE(out.row(2) == table.row(4));
  const Matrix of_output = random_matrix("gradient", 4, 3);
  const Matrix gradient = embedding_backward(of_output, tokens, 5);
  REQUIRE(gradient.row(4) == of_output.row(0) + of_output.row(2));
  REQUIRE(gradient.row(1).isZero(0));
  const Matrix expected =
      slopes(table, [&] { return weighted_sum(embedding_forward(table, tokens), of_output); });
  REQUIRE(relative_error(gradient, expected) < kSlopeTolerance);
  REQUIRE_THROWS_WITH(embedding_forward(table, {5}), Contains("token 5 of a vocabulary of 5"));
  REQUIRE_THROWS_WITH(embedding_backward(of_output, {1}, 5), Contains("output gradient must be 1"));
}

TEST_CASE("equal logits lose the logarithm of the vocabulary", "[reference]") {
  const CrossEntropy result = cross_entropy_forward(Matrix::Constant(2, 8, 3), {0, 7});
  for (Index row = 0; row < 2; ++row) {
    REQUIRE(result.losses(row) == Approx(std::log(8.0)));
    REQUIRE(result.log_sum_exp(row) == Approx(3 + std::log(8.0)));
  }
}

TEST_CASE("logits of a thousand neither overflow nor vanish", "[reference]") {
  const CrossEntropy result = cross_entropy_forward(Matrix{{1000, 0}, {0, 1000}}, {0, 0});
  REQUIRE(result.losses == Vector{{0, 1000}});
}

TEST_CASE("the gradient of cross-entropy is its slopes, and adds up to zero", "[reference]") {
  Matrix logits = random_matrix("logits", 4, 6);
  const Indices targets{0, 5, 3, 3};
  const Vector row_weights{{0.25, 1, 0, -2}};
  const Matrix gradient = cross_entropy_backward(logits, targets, row_weights);
  const Matrix expected = slopes(
      logits, [&] { return cross_entropy_forward(logits, targets).losses.dot(row_weights); });
  REQUIRE(relative_error(gradient, expected) < kSlopeTolerance);
  REQUIRE(gradient.rowwise().sum().cwiseAbs().maxCoeff() < kSame);
  REQUIRE_THROWS_WITH(cross_entropy_forward(logits, {0, 0, 0, 6}),
                      Contains("target 6 of a vocabulary of 6"));
  REQUIRE_THROWS_WITH(cross_entropy_forward(logits, {0}), Contains("1 targets of 4 rows"));
}

TEST_CASE("the MTP projection takes the hidden state first, each half of mean square one",
          "[reference]") {
  Matrix left = Matrix::Zero(3, 6);
  left.leftCols(3).setIdentity();
  const MtpTensors inputs = {.hidden = Matrix{{2, 2, -2}},
                             .embedding = Matrix{{0, 7, 0}},
                             .hidden_weight = Vector{{1, 2, 3}},
                             .embedding_weight = Vector::Ones(3),
                             .projection = left};
  REQUIRE(relative_error(mtp_forward(inputs, 0), Matrix{{1, 2, -3}}) < kSame);
}

TEST_CASE("gradients of the MTP projection are its slopes", "[reference]") {
  constexpr double kEpsilon = 1e-6;
  MtpTensors inputs = {.hidden = random_matrix("hidden", 3, 4),
                       .embedding = random_matrix("embedding", 3, 4),
                       .hidden_weight = random_vector("hidden weight", 4),
                       .embedding_weight = random_vector("embedding weight", 4),
                       .projection = random_matrix("projection", 4, 8)};
  const Matrix of_output = random_matrix("gradient", 3, 4);
  const MtpTensors gradients = mtp_backward(inputs, kEpsilon, of_output);
  const auto loss = [&] { return weighted_sum(mtp_forward(inputs, kEpsilon), of_output); };
  REQUIRE(relative_error(gradients.hidden, slopes(inputs.hidden, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.embedding, slopes(inputs.embedding, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.hidden_weight, slopes(inputs.hidden_weight, loss)) <
          kSlopeTolerance);
  REQUIRE(relative_error(gradients.embedding_weight, slopes(inputs.embedding_weight, loss)) <
          kSlopeTolerance);
  REQUIRE(relative_error(gradients.projection, slopes(inputs.projection, loss)) < kSlopeTolerance);
  inputs.projection.resize(4, 4);
  REQUIRE_THROWS_WITH(mtp_forward(inputs, kEpsilon), Contains("projection must be 4 x 8"));
}

TEST_CASE("AdamW's first step moves each weight by the rate against its gradient's sign",
          "[reference]") {
  const AdamWSettings settings = {.learning_rate = 0.01, .epsilon = 0, .weight_decay = 0};
  const AdamWState start = {Vector{{1, 2, 3}}, Vector::Zero(3), Vector::Zero(3)};
  const AdamWState next = adamw_step(start, Vector{{1e-3, -5, 700}}, settings, 1);
  REQUIRE(relative_error(next.parameters, Vector{{1 - 0.01, 2 + 0.01, 3 - 0.01}}) < kSame);
}

TEST_CASE("AdamW's decay shrinks weights without a gradient and leaves moments alone",
          "[reference]") {
  const AdamWSettings settings = {.learning_rate = 0.01, .weight_decay = 0.1};
  const AdamWState start = {Vector{{1, -2}}, Vector::Zero(2), Vector::Zero(2)};
  const AdamWState next = adamw_step(start, Vector::Zero(2), settings, 1);
  REQUIRE(relative_error(next.parameters, (1 - 0.01 * 0.1) * start.parameters) < kSame);
  REQUIRE(next.first_moment.isZero(0));
  REQUIRE(next.second_moment.isZero(0));
}

TEST_CASE("AdamW's moments are the weighted sums of all gradients so far", "[reference]") {
  const AdamWSettings settings;
  AdamWState state = {Vector::Zero(1), Vector::Zero(1), Vector::Zero(1)};
  double first = 0;
  double second = 0;
  constexpr int kSteps = 5;
  for (int step = 1; step <= kSteps; ++step) {
    state = adamw_step(state, Vector::Constant(1, step), settings, step);
    first += 0.1 * std::pow(0.9, kSteps - step) * step;
    second += 0.05 * std::pow(0.95, kSteps - step) * step * step;
  }
  REQUIRE(state.first_moment(0) == Approx(first));
  REQUIRE(state.second_moment(0) == Approx(second));
}

TEST_CASE("stored moments are rounded; the step that made them used them exact", "[reference]") {
  const AdamWSettings settings = {.learning_rate = 0.01};
  const AdamWState start = {Vector{{1}}, Vector{{0.3}}, Vector{{0.7}}};
  const AdamWState exact = adamw_step(start, Vector{{0.9}}, settings, 3);
  const AdamWState rounded =
      adamw_step(start, Vector{{0.9}}, settings, 3, [](double x) { return std::round(4 * x) / 4; });
  REQUIRE(rounded.parameters == exact.parameters);
  REQUIRE(rounded.first_moment(0) == 0.25);   // of 0.9 0.3 + 0.1 0.9 = 0.36
  REQUIRE(rounded.second_moment(0) == 0.75);  // of 0.95 0.7 + 0.05 0.81 = 0.7055
  REQUIRE_THROWS_WITH(adamw_step(start, Vector{{0.9}}, settings, 0), Contains("from 1, not 0"));
  REQUIRE_THROWS_WITH(adamw_step(start, Vector(2), settings, 1), Contains("gradient must have 1"));
}

TEST_CASE("clipping brings a norm above the limit to it and leaves others", "[reference]") {
  const double norm = gradient_norm({Vector{{3, 0}}, Vector{{}}, Vector{{4}}});
  REQUIRE(norm == 5);
  REQUIRE(clipping_factor(norm, 1) * norm == Approx(1));
  REQUIRE(clipping_factor(1, 1) == 1 / (1 + 1e-6));
  REQUIRE(clipping_factor(0.5, 1) == 1);
  REQUIRE(clipping_factor(0, 1) == 1);
  REQUIRE_THROWS_WITH(clipping_factor(norm, 0), Contains("norm of 0"));
}
