/// Matrix products, plain and of block-scaled operands. Both operands hold the summed extent k in
/// their columns, as Hopper's FP8 tensor cores require.
#pragma once

#include <vector>

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// C[m,n] = A[m,k] B[n,k]^T.
Matrix product(const Matrix& a, const Matrix& b);

/// Extents of the block of elements that share one scale.
struct ScaleBlock {
  Index rows = 1;
  Index columns = 128;
};

/// DeepSeek-V3, section 3.3.2: activations by 1 x 128, weights by 128 x 128.
inline constexpr ScaleBlock kActivationBlock{1, 128};
inline constexpr ScaleBlock kWeightBlock{128, 128};

/// Every element times the scale of its block.
/// @param scales  ceil(rows / block.rows) x ceil(columns / block.columns)
Matrix dequantise(const Matrix& elements, const Matrix& scales, ScaleBlock block);

/// C[m,n] = dequantise(A[m,k]) dequantise(B[n,k])^T.
Matrix scaled_product(const Matrix& a, const Matrix& a_scales, ScaleBlock a_block, const Matrix& b,
                      const Matrix& b_scales, ScaleBlock b_block);

/// Row r of expert e times that expert's weights: C[r,n] = A[r,k] B_e[n,k]^T for the rows
/// offsets[e] .. offsets[e] + counts[e] - 1; the rows between (padding) are zero.
/// @param offsets  one more than experts, ascending, the last is the number of rows
Matrix grouped_product(const Matrix& a, const Indices& offsets, const Indices& counts,
                       const std::vector<Matrix>& weights);

/// Weight gradients of grouped_product: for every expert, G_e^T[n,rows] A_e[rows,k].
std::vector<Matrix> grouped_weight_gradient(const Matrix& a, const Matrix& output_gradient,
                                            const Indices& offsets, const Indices& counts);

}  // namespace pipecast::kernels::reference
