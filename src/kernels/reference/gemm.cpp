#include "kernels/reference/gemm.hpp"

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

Index blocks(Index extent, Index block) { return (extent + block - 1) / block; }

void require_groups(Index rows, const Indices& offsets, const Indices& counts) {
  require(offsets.size() == counts.size() + 1, "{} groups of rows need {} offsets, not {}",
          counts.size(), counts.size() + 1, offsets.size());
  require(offsets.back() == rows, "the last offset must be the {} rows, not {}", rows,
          offsets.back());
  for (std::size_t group = 0; group < counts.size(); ++group) {
    require(counts[group] >= 0 && offsets[group] >= 0 &&
                offsets[group] + counts[group] <= offsets[group + 1],
            "group {} has {} rows from row {}, past row {}", group, counts[group], offsets[group],
            offsets[group + 1]);
  }
}

}  // namespace

Matrix product(const Matrix& a, const Matrix& b) {
  require(a.cols() == b.cols(), "a product sums over {} columns of A and {} of B", a.cols(),
          b.cols());
  return a * b.transpose();
}

Matrix dequantise(const Matrix& elements, const Matrix& scales, ScaleBlock block) {
  require(block.rows > 0 && block.columns > 0, "a scale block of {} x {}", block.rows,
          block.columns);
  require_extents("scales", scales, blocks(elements.rows(), block.rows),
                  blocks(elements.cols(), block.columns));
  Matrix out(elements.rows(), elements.cols());
  for (Index row = 0; row < out.rows(); ++row) {
    for (Index column = 0; column < out.cols(); ++column) {
      out(row, column) = elements(row, column) * scales(row / block.rows, column / block.columns);
    }
  }
  return out;
}

Matrix scaled_product(const Matrix& a, const Matrix& a_scales, ScaleBlock a_block, const Matrix& b,
                      const Matrix& b_scales, ScaleBlock b_block) {
  return product(dequantise(a, a_scales, a_block), dequantise(b, b_scales, b_block));
}

Matrix grouped_product(const Matrix& a, const Indices& offsets, const Indices& counts,
                       const std::vector<Matrix>& weights) {
  require_groups(a.rows(), offsets, counts);
  require(!weights.empty() && weights.size() == counts.size(), "{} groups of rows, {} of weights",
          counts.size(), weights.size());
  Matrix out = Matrix::Zero(a.rows(), weights.front().rows());
  for (std::size_t group = 0; group < counts.size(); ++group) {
    require_extents("weights of a group", weights[group], out.cols(), a.cols());
    out.middleRows(offsets[group], counts[group]) =
        product(a.middleRows(offsets[group], counts[group]), weights[group]);
  }
  return out;
}

std::vector<Matrix> grouped_weight_gradient(const Matrix& a, const Matrix& output_gradient,
                                            const Indices& offsets, const Indices& counts) {
  require_groups(a.rows(), offsets, counts);
  require_extents("output gradient", output_gradient, a.rows(), output_gradient.cols());
  std::vector<Matrix> gradients;
  for (std::size_t group = 0; group < counts.size(); ++group) {
    gradients.push_back(
        product(output_gradient.middleRows(offsets[group], counts[group]).transpose(),
                a.middleRows(offsets[group], counts[group]).transpose()));
  }
  return gradients;
}

}  // namespace pipecast::kernels::reference
