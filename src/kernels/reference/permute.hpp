/// Rows of tokens gathered by expert for the grouped products, and the weighted sum back.
#pragma once

#include <optional>
#include <vector>

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// In a list of a token's experts: this one is held by another rank (as in DeepEP).
inline constexpr Index kElsewhere = -1;

/// The slot of a token's list of experts that a row serves.
struct RoutedSlot {
  Index token{};
  Index slot{};
};

/// Which token each row of the permuted tensor holds. The rows of an expert follow the order of
/// tokens, then of slots; every expert's rows start at a multiple of the alignment.
struct PermutedRows {
  Index tokens{};
  Index slots{};      // of a token
  Indices offsets{};  // first row of each expert, then the number of rows, padding included
  Indices counts{};   // rows of each expert without padding
  std::vector<std::optional<RoutedSlot>> rows{};  // empty: padding
};

/// @param experts    tokens x slots, local expert or kElsewhere
/// @param alignment  rows of each expert are padded to a multiple (128 for FP8 grouped products)
PermutedRows permuted_rows(const IndexMatrix& experts, Index expert_count, Index alignment);

/// Rows in the permuted order; padding is zero.
/// @param input  tokens x width
Matrix permute_forward(const Matrix& input, const PermutedRows& order);

/// Sum of the gradients of each token's rows; those of padding are not read.
Matrix permute_backward(const Matrix& row_gradient, const PermutedRows& order);

/// Per token the sum over its rows, each times the weight of its slot.
/// @param rows     permuted rows x width
/// @param weights  tokens x slots
Matrix unpermute_forward(const Matrix& rows, const Matrix& weights, const PermutedRows& order);

struct UnpermuteGradients {
  Matrix rows{};     // padding: zero
  Matrix weights{};  // elsewhere: zero
};

/// d row = weight * dy of its token, d weight = dot(dy, row).
UnpermuteGradients unpermute_backward(const Matrix& output_gradient, const Matrix& rows,
                                      const Matrix& weights, const PermutedRows& order);

}  // namespace pipecast::kernels::reference
