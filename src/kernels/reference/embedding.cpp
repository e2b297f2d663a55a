#include "kernels/reference/embedding.hpp"

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

void require_known(const Indices& tokens, Index vocabulary) {
  for (const Index token : tokens) {
    require(token >= 0 && token < vocabulary, "token {} of a vocabulary of {}", token, vocabulary);
  }
}

}  // namespace

Matrix embedding_forward(const Matrix& table, const Indices& tokens) {
  require_known(tokens, table.rows());
  Matrix out(static_cast<Index>(tokens.size()), table.cols());
  Index row = 0;
  for (const Index token : tokens) out.row(row++) = table.row(token);
  return out;
}

Matrix embedding_backward(const Matrix& output_gradient, const Indices& tokens, Index vocabulary) {
  require_known(tokens, vocabulary);
  require_extents("output gradient", output_gradient, static_cast<Index>(tokens.size()),
                  output_gradient.cols());
  Matrix gradient = Matrix::Zero(vocabulary, output_gradient.cols());
  Index row = 0;
  for (const Index token : tokens) gradient.row(token) += output_gradient.row(row++);
  return gradient;
}

}  // namespace pipecast::kernels::reference
