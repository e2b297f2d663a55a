#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/gemm.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

TEST_CASE("a product sums over the columns of both operands", "[reference]") {
  const Matrix a = random_matrix("a", 3, 5);
  const Matrix b = random_matrix("b", 4, 5);
  Matrix expected = Matrix::Zero(3, 4);
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 4; ++j) {
      for (Index k = 0; k < 5; ++k) expected(i, j) += a(i, k) * b(j, k);
    }
  }
  REQUIRE(relative_error(product(a, b), expected) < kSame);
  REQUIRE_THROWS_WITH(product(a, random_matrix("b", 4, 6)), Contains("5 columns of A and 6 of B"));
}

TEST_CASE("a product with no rows or no columns to sum is empty or zero", "[reference]") {
  REQUIRE(product(Matrix(0, 5), Matrix::Ones(4, 5)).rows() == 0);
  REQUIRE(product(Matrix(2, 0), Matrix(3, 0)) == Matrix::Zero(2, 3));
}

TEST_CASE("scales of blocks can be taken out of the elements and put back", "[reference]") {
  const ScaleBlock block = GENERATE(ScaleBlock{1, 4}, ScaleBlock{4, 4}, ScaleBlock{3, 2});
  const Matrix whole = random_matrix("whole", 6, 10);
  const Index rows = (6 + block.rows - 1) / block.rows;
  const Index columns = (10 + block.columns - 1) / block.columns;
  const Matrix scales = random_matrix("scales", rows, columns);
  Matrix elements = whole;
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 10; ++j) elements(i, j) /= scales(i / block.rows, j / block.columns);
  }
  REQUIRE(relative_error(dequantise(elements, scales, block), whole) < kSame);
  const Matrix b = random_matrix("b", 5, 10);
  const Matrix ones = Matrix::Ones(5, 1);
  REQUIRE(relative_error(scaled_product(elements, scales, block, b, ones, {1, 10}),
                         product(whole, b)) < kSame);
  REQUIRE_THROWS_WITH(dequantise(elements, Matrix::Ones(7, 7), block), Contains("scales must be"));
}

TEST_CASE("a grouped product is each group's own product, padding is zero", "[reference]") {
  const Indices offsets{0, 4, 4, 8};
  const Indices counts{3, 0, 4};
  const Matrix a = random_matrix("a", 8, 5);
  std::vector<Matrix> weights;
  for (const char* name : {"w0", "w1", "w2"}) weights.push_back(random_matrix(name, 6, 5));
  const Matrix out = grouped_product(a, offsets, counts, weights);
  REQUIRE(relative_error(out.topRows(3), product(a.topRows(3), weights[0])) < kSame);
  REQUIRE(out.row(3).isZero(0));
  REQUIRE(relative_error(out.bottomRows(4), product(a.bottomRows(4), weights[2])) < kSame);
  REQUIRE_THROWS_WITH(grouped_product(a, {0, 4, 8}, {5, 4}, weights), Contains("past row 4"));
  REQUIRE_THROWS_WITH(grouped_product(a, {0, 4, 4, 9}, counts, weights), Contains("8 rows, not 9"));
  REQUIRE_THROWS_WITH(grouped_product(a, {0, 8}, counts, weights), Contains("need 4 offsets"));
}

TEST_CASE("gradients of a grouped product's weights are its slopes", "[reference]") {
  const Indices offsets{0, 4, 4, 8};
  const Indices counts{3, 0, 4};
  const Matrix a = random_matrix("a", 8, 5);
  const Matrix of_output = random_matrix("gradient", 8, 6);
  std::vector<Matrix> weights;
  for (const char* name : {"w0", "w1", "w2"}) weights.push_back(random_matrix(name, 6, 5));
  const std::vector<Matrix> gradients = grouped_weight_gradient(a, of_output, offsets, counts);
  REQUIRE(gradients[1].isZero(0));
  for (std::size_t group = 0; group < 3; ++group) {
    const Matrix expected = slopes(weights[group], [&] {
      return weighted_sum(grouped_product(a, offsets, counts, weights), of_output);
    });
    REQUIRE(relative_error(gradients[group], expected) < kSlopeTolerance);
  }
}
