/// The table of token embeddings.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// @param table   vocabulary x width
/// @param tokens  rows of the table
Matrix embedding_forward(const Matrix& table, const Indices& tokens);

/// Gradient of the whole table: rows of a token that occurs several times add up.
/// @param output_gradient  tokens x width
Matrix embedding_backward(const Matrix& output_gradient, const Indices& tokens, Index vocabulary);

}  // namespace pipecast::kernels::reference
