#include "differences.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>

namespace pipecast::kernels::reference {
namespace {

constexpr double kStep = 1e-5;

template <class Tensor>
Matrix slopes_of(Tensor& x, const std::function<double()>& loss) {
  Matrix out(x.rows(), x.cols());
  for (Index row = 0; row < x.rows(); ++row) {
    for (Index column = 0; column < x.cols(); ++column) {
      const double before = x(row, column);
      x(row, column) = before + kStep;
      const double above = loss();
      x(row, column) = before - kStep;
      const double below = loss();
      x(row, column) = before;
      out(row, column) = (above - below) / (2 * kStep);
    }
  }
  return out;
}

}  // namespace

Matrix random_matrix(std::string_view name, Index rows, Index columns) {
  Random random(1, name);
  Matrix out(rows, columns);
  for (Index row = 0; row < rows; ++row) {
    for (Index column = 0; column < columns; ++column) out(row, column) = random.normal();
  }
  return out;
}

Vector random_vector(std::string_view name, Index length) {
  return random_matrix(name, length, 1).col(0);
}

double weighted_sum(const Matrix& a, const Matrix& b) { return a.cwiseProduct(b).sum(); }

Matrix slopes(Matrix& x, const std::function<double()>& loss) { return slopes_of(x, loss); }
Matrix slopes(Vector& x, const std::function<double()>& loss) { return slopes_of(x, loss); }

double relative_error(const Matrix& actual, const Matrix& expected) {
  REQUIRE(actual.rows() == expected.rows());
  REQUIRE(actual.cols() == expected.cols());
  if (actual.size() == 0) return 0;
  // A NaN is no largest element.
  if (!(actual - expected).allFinite()) return std::numeric_limits<double>::infinity();
  return (actual - expected).cwiseAbs().maxCoeff() / std::max(1.0, expected.cwiseAbs().maxCoeff());
}

}  // namespace pipecast::kernels::reference
