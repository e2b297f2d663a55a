#include <catch2/catch.hpp>
#include <vector>

#include "kernels/norm/rms_norm.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "kernels/simt/device_error.hpp"
#include "rows.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Matrix;
using reference::Vector;

constexpr float kEpsilon = 1e-6F;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Norm {
  int rows;
  int columns;
  Buffer<Bf16> input;
  Buffer<Bf16> weight;
  Buffer<Bf16> output_gradient;

  Norm(int rows_, int columns_)
      : rows(rows_),
        columns(columns_),
        input(as_bf16(normal_values(extent(rows, columns), 1, 3.0F))),
        weight(as_bf16(normal_values(extent(1, columns), 2))),
        output_gradient(as_bf16(normal_values(extent(rows, columns), 3))) {}

  Matrix x() const { return as_matrix(input, rows, columns); }
  Vector w() const { return as_matrix(weight, 1, columns).transpose(); }
  Matrix dy() const { return as_matrix(output_gradient, rows, columns); }

  Buffer<Bf16> forward(int sms = 0) const {
    Buffer<Bf16> output(input.size());
    rmsnorm_fwd({input.data(), weight.data(), output.data(), kEpsilon, rows, columns, sms});
    synchronise();
    return output;
  }
};

struct Gradients {
  Buffer<Bf16> input;
  Buffer<float> weight;
};

Gradients backward(const Norm& norm, int sms = 0) {
  const int partial_rows = rms_norm_partial_rows(norm.rows, norm.columns, sms);
  Gradients gradients{Buffer<Bf16>(norm.input.size()), Buffer<float>(norm.weight.size())};
  Buffer<float> partial(extent(partial_rows, norm.columns));
  rmsnorm_bwd({norm.input.data(), norm.weight.data(), norm.output_gradient.data(),
               gradients.input.data(), partial.data(), kEpsilon, norm.rows, norm.columns, sms});
  rmsnorm_bwd_finalize({partial.data(), gradients.weight.data(), partial_rows, norm.columns, sms});
  synchronise();
  return gradients;
}

/// The worst distance of the weight's gradient, in units of 2^-20 (FP32, sums of a few hundred
/// terms) of the sum of its terms' magnitudes, which bounds what rounding can do.
double weight_distance(const Gradients& gradients, const Norm& norm) {
  const Matrix x = norm.x();
  const Matrix dy = norm.dy();
  const auto epsilon = static_cast<double>(kEpsilon);
  const Vector exact = reference::rms_norm_backward(x, norm.w(), epsilon, dy).weight;
  const Vector reciprocals = reference::rms_norm_reciprocals(x, epsilon);
  double worst = 0;
  for (int column = 0; column < norm.columns; ++column) {
    double magnitude = 0;
    for (int row = 0; row < norm.rows; ++row) {
      magnitude += std::abs(dy(row, column) * x(row, column) * reciprocals(row));
    }
    const auto got = static_cast<double>(gradients.weight[extent(1, column)]);
    if (std::isnan(got)) return INFINITY;
    if (got != exact(column)) {
      worst = std::max(worst, std::abs(got - exact(column)) / (magnitude * std::exp2(-20)));
    }
  }
  return worst;
}

bool same_bits(const Buffer<Bf16>& a, const Buffer<Bf16>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](Bf16 x, Bf16 y) { return x.bits == y.bits; });
}

}  // namespace

TEST_CASE("RMSNorm forward and backward are the FP64 reference's, in every shape of row",
          "[rms_norm]") {
  // A warp, a block and a block of several pieces to a row, at their edges and just over them; more
  // rows than the emulated SMs hold at once.
  const auto [rows, columns] =
      GENERATE(std::tuple{1, 8}, std::tuple{200, 136}, std::tuple{9, 512}, std::tuple{3, 520},
               std::tuple{21, 1536}, std::tuple{2, 1544}, std::tuple{2, 2056}, std::tuple{11, 7168},
               std::tuple{1, 8192});
  CAPTURE(rows, columns);
  const Norm norm(rows, columns);
  const auto epsilon = static_cast<double>(kEpsilon);
  const Matrix exact = reference::rms_norm_forward(norm.x(), norm.w(), epsilon);
  const Matrix exact_gradient =
      reference::rms_norm_backward(norm.x(), norm.w(), epsilon, norm.dy()).input;
  const Buffer<Bf16> output = norm.forward();
  const Gradients gradients = backward(norm);
  REQUIRE(bf16_distance(output, exact) <= 1);
  REQUIRE(bf16_distance(gradients.input, exact_gradient) <= 1);
  REQUIRE(weight_distance(gradients, norm) <= 1);
  in_every_order([&] {
    REQUIRE(same_bits(norm.forward(), output));
    const Gradients again = backward(norm);
    REQUIRE(same_bits(again.input, gradients.input));
    REQUIRE(std::equal(again.weight.begin(), again.weight.end(), gradients.weight.begin()));
  });
}

TEST_CASE("RMSNorm's gradients are the slopes of the FP64 forward pass", "[rms_norm]") {
  constexpr int kRows = 3;
  constexpr int kColumns = 16;
  const Norm norm(kRows, kColumns);
  const auto epsilon = static_cast<double>(kEpsilon);
  const auto loss = [&](const Matrix& x, const Vector& w) {
    return reference::rms_norm_forward(x, w, epsilon).cwiseProduct(norm.dy()).sum();
  };
  const double step = std::exp2(-16);  // central: the error is of the order of its square
  Matrix of_input(kRows, kColumns);
  for (reference::Index i = 0; i < of_input.size(); ++i) {
    Matrix up = norm.x();
    Matrix down = norm.x();
    up.data()[i] += step;
    down.data()[i] -= step;
    of_input.data()[i] = (loss(up, norm.w()) - loss(down, norm.w())) / (2 * step);
  }
  const Gradients gradients = backward(norm);
  REQUIRE(bf16_distance(gradients.input, of_input) <= 1);
  for (int column = 0; column < kColumns; ++column) {
    Vector up = norm.w();
    Vector down = norm.w();
    up(column) += step;
    down(column) -= step;
    const double slope = (loss(norm.x(), up) - loss(norm.x(), down)) / (2 * step);
    REQUIRE(static_cast<double>(gradients.weight[extent(1, column)]) ==
            Approx(slope).epsilon(1e-5).margin(1e-5));
  }
}

TEST_CASE("RMSNorm on one SM gives the same rows, and the weight's gradient to rounding",
          "[rms_norm]") {
  const Norm norm(70, 256);
  REQUIRE(same_bits(norm.forward(1), norm.forward(0)));
  const Gradients one = backward(norm, 1);
  REQUIRE(same_bits(one.input, backward(norm).input));
  REQUIRE(weight_distance(one, norm) <= 1);
}

TEST_CASE("a NaN or an infinity of RMSNorm's input stays in its row", "[rms_norm]") {
  const int columns = GENERATE(64, 2048);
  const bool in_gradient = GENERATE(false, true);
  constexpr int kRows = 3;
  Norm norm(kRows, columns);
  (in_gradient ? norm.output_gradient : norm.input)[extent(1, columns) + 5] = to_bf16(kNan);
  if (!in_gradient) norm.input[extent(2, columns) + 5] = to_bf16(INFINITY);
  in_every_order([&] {
    const Buffer<Bf16> output = norm.forward();
    const Gradients gradients = backward(norm);
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < columns; ++column) {
        const std::size_t at = extent(row, columns) + extent(1, column);
        const bool of_infinity = !in_gradient && row == 2 && column == 5;
        REQUIRE(std::isnan(to_float(output[at])) == ((!in_gradient && row == 1) || of_infinity));
        // The infinity makes its whole row's gradient NaN: infinity times a reciprocal of 0.
        REQUIRE(std::isnan(to_float(gradients.input[at])) ==
                (row == 1 || (!in_gradient && row == 2)));
      }
    }
    // A column's sum has a term of every row.
    REQUIRE(std::isnan(gradients.weight[5]));
    REQUIRE(std::isnan(gradients.weight[6]) == !in_gradient);
  });
}

TEST_CASE("RMSNorm takes no rows and refuses rows that it cannot hold", "[rms_norm]") {
  const Norm norm(0, 64);
  const Gradients gradients = backward(norm);
  norm.forward();
  // The sum of no rows.
  REQUIRE(std::all_of(gradients.weight.begin(), gradients.weight.end(),
                      [](float g) { return g == 0.0F; }));
  Buffer<Bf16> one(8);
  Buffer<float> sums(8);
  const auto forward = [&](int columns) {
    rmsnorm_fwd({one.data(), one.data(), one.data(), kEpsilon, 1, columns, 0});
  };
  REQUIRE_THROWS_WITH(forward(12), Catch::Contains("multiple of 8"));
  REQUIRE_THROWS_WITH(forward(8200), Catch::Contains("at most 8192"));
  REQUIRE_THROWS_WITH(rms_norm_partial_rows(1, 8200, 0), Catch::Contains("at most 8192"));
  REQUIRE_THROWS_WITH(rmsnorm_bwd_finalize({sums.data(), sums.data(), 1, 12, 0}),
                      Catch::Contains("multiple of 8"));
}

}  // namespace pipecast::kernels
