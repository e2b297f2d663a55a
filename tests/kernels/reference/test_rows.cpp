// Functions of single rows: RMSNorm, RoPE, SwiGLU.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "kernels/reference/rope.hpp"
#include "kernels/reference/swiglu.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

TEST_CASE("RMSNorm gives rows of mean square one, whatever their size", "[reference]") {
  const Matrix input = random_matrix("input", 4, 9);
  const Matrix out = rms_norm_forward(input, Vector::Ones(9), 0);
  for (Index row = 0; row < 4; ++row) REQUIRE(out.row(row).squaredNorm() / 9 == Approx(1));
  REQUIRE(relative_error(rms_norm_forward(1000 * input, Vector::Ones(9), 0), out) < kSame);
}

TEST_CASE("RMSNorm keeps a row of zeros finite by its epsilon", "[reference]") {
  const Vector reciprocals = rms_norm_reciprocals(Matrix::Zero(1, 8), 1e-6);
  REQUIRE(reciprocals(0) == Approx(1e3));
  REQUIRE(rms_norm_forward(Matrix::Zero(1, 8), Vector::Ones(8), 1e-6).isZero(0));
}

TEST_CASE("gradients of RMSNorm are its slopes", "[reference]") {
  const double epsilon = GENERATE(1e-6, 0.3);
  Matrix input = random_matrix("input", 3, 7);
  Vector weight = random_vector("weight", 7);
  const Matrix of_output = random_matrix("gradient", 3, 7);
  const RmsNormGradients gradients = rms_norm_backward(input, weight, epsilon, of_output);
  const auto loss = [&] {
    return weighted_sum(rms_norm_forward(input, weight, epsilon), of_output);
  };
  REQUIRE(relative_error(gradients.input, slopes(input, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.weight, slopes(weight, loss)) < kSlopeTolerance);
}

TEST_CASE("RMSNorm refuses weights of another width", "[reference]") {
  REQUIRE_THROWS_WITH(rms_norm_forward(Matrix(2, 3), Vector(4), 0),
                      Contains("weight must have 3 elements, not 4"));
  REQUIRE_THROWS_WITH(rms_norm_reciprocals(Matrix(2, 0), 0), Contains("over 0 columns"));
  REQUIRE_THROWS_WITH(rms_norm_backward(Matrix(2, 3), Vector(3), 0, Matrix(3, 3)),
                      Contains("output gradient must be 2 x 3"));
}

TEST_CASE("RoPE turns neighbouring elements as one complex number", "[reference]") {
  const RopeLayout layout = {.head_width = 6, .rope_offset = 2, .rope_width = 4, .base = 100};
  const Matrix input = random_matrix("input", 2, 12);
  const Matrix out = rope_forward(input, {0, 3}, layout);
  REQUIRE(out.row(0) == input.row(0));  // position 0 turns nothing
  for (Index head = 0; head < 2; ++head) {
    REQUIRE(out(1, 6 * head) == input(1, 6 * head));
    REQUIRE(out(1, 6 * head + 1) == input(1, 6 * head + 1));
    for (Index pair = 0; pair < 2; ++pair) {
      const double angle = pair == 0 ? 3 : 3 / std::sqrt(100.0);
      const Index at = 6 * head + 2 + 2 * pair;
      REQUIRE(out(1, at) ==
              Approx(input(1, at) * std::cos(angle) - input(1, at + 1) * std::sin(angle)));
      REQUIRE(out(1, at + 1) ==
              Approx(input(1, at) * std::sin(angle) + input(1, at + 1) * std::cos(angle)));
    }
  }
}

TEST_CASE("products of turned queries and keys depend on their distance alone", "[reference]") {
  const RopeLayout layout = {.head_width = 8, .rope_width = 8};
  const Matrix query = random_matrix("query", 1, 8);
  const Matrix key = random_matrix("key", 1, 8);
  const auto logit = [&](Index at_query, Index at_key) {
    return weighted_sum(rope_forward(query, {at_query}, layout),
                        rope_forward(key, {at_key}, layout));
  };
  REQUIRE(logit(105, 100) == Approx(logit(5, 0)));
}

TEST_CASE("the gradient of RoPE is its slopes, and turns back what was turned", "[reference]") {
  const RopeLayout layout = {.head_width = 6, .rope_offset = 2, .rope_width = 4};
  const Indices positions = positions_in_sequences({0, 2, 2, 5});
  REQUIRE(positions == Indices{0, 1, 0, 1, 2});
  Matrix input = random_matrix("input", 5, 6);
  const Matrix of_output = random_matrix("gradient", 5, 6);
  const Matrix expected = slopes(
      input, [&] { return weighted_sum(rope_forward(input, positions, layout), of_output); });
  REQUIRE(relative_error(rope_backward(of_output, positions, layout), expected) < kSlopeTolerance);
  REQUIRE(relative_error(rope_backward(rope_forward(input, positions, layout), positions, layout),
                         input) < kSame);
}

TEST_CASE("RoPE refuses layouts that do not fit", "[reference]") {
  const RopeLayout layout = {.head_width = 6, .rope_offset = 2, .rope_width = 4};
  REQUIRE_THROWS_WITH(rope_forward(Matrix(1, 8), {0}, layout), Contains("no whole heads of 6"));
  REQUIRE_THROWS_WITH(rope_forward(Matrix(2, 6), {0}, layout), Contains("1 positions of 2 rows"));
  REQUIRE_THROWS_WITH(rope_forward(Matrix(1, 6), {0}, {.head_width = 6, .rope_width = 3}),
                      Contains("RoPE of 3 elements"));
}

TEST_CASE("SwiGLU is x sigmoid(x) of the first half times the second", "[reference]") {
  const Matrix out = swiglu_forward(Matrix{{0, 1, -2, 5, 3, 4}});
  REQUIRE(out(0, 0) == 0);
  REQUIRE(out(0, 1) == Approx(3 / (1 + std::exp(-1.0))));
  REQUIRE(out(0, 2) == Approx(4 * -2 / (1 + std::exp(2.0))));
}

TEST_CASE("SwiGLU of infinite gates takes its limits", "[reference]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Matrix gate_up{{-kInfinity, kInfinity, -1000, 1000, 2, 2, 2, 2}};
  REQUIRE(swiglu_forward(gate_up) == Matrix{{0, kInfinity, 0, 2000}});
  REQUIRE(swiglu_backward(gate_up, Matrix::Ones(1, 4)).leftCols(4) == Matrix{{0, 2, 0, 2}});
}

TEST_CASE("the gradient of SwiGLU is its slopes", "[reference]") {
  Matrix gate_up = random_matrix("gate and up", 4, 10);
  const Matrix of_output = random_matrix("gradient", 4, 5);
  const Matrix expected =
      slopes(gate_up, [&] { return weighted_sum(swiglu_forward(gate_up), of_output); });
  REQUIRE(relative_error(swiglu_backward(gate_up, of_output), expected) < kSlopeTolerance);
  REQUIRE_THROWS_WITH(swiglu_forward(Matrix(2, 3)), Contains("not 3 columns"));
  REQUIRE_THROWS_WITH(swiglu_backward(Matrix(2, 3), Matrix(2, 1)), Contains("not 3 columns"));
}
