/// Cross-entropy of logits against the token that came.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

struct CrossEntropy {
  Vector losses{};       // log_sum_exp - logit of the target, per row
  Vector log_sum_exp{};  // per row
};

/// @param logits   rows x vocabulary
/// @param targets  one per row
CrossEntropy cross_entropy_forward(const Matrix& logits, const Indices& targets);

/// weight * (softmax(logits) - 1 at the target).
/// @param row_weights  the loss's slope over each row's, 1 / rows for the mean
Matrix cross_entropy_backward(const Matrix& logits, const Indices& targets,
                              const Vector& row_weights);

}  // namespace pipecast::kernels::reference
