#include "kernels/reference/cross_entropy.hpp"

#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

Index target_of(const Indices& targets, Index row) {
  return targets[static_cast<std::size_t>(row)];
}

}  // namespace

CrossEntropy cross_entropy_forward(const Matrix& logits, const Indices& targets) {
  require(static_cast<Index>(targets.size()) == logits.rows(), "{} targets of {} rows",
          targets.size(), logits.rows());
  CrossEntropy result{Vector(logits.rows()), Vector(logits.rows())};
  for (Index row = 0; row < logits.rows(); ++row) {
    const Index target = target_of(targets, row);
    require(target >= 0 && target < logits.cols(), "target {} of a vocabulary of {}", target,
            logits.cols());
    const double largest = logits.row(row).maxCoeff();
    result.log_sum_exp(row) = largest + std::log((logits.row(row).array() - largest).exp().sum());
    result.losses(row) = result.log_sum_exp(row) - logits(row, target);
  }
  return result;
}

Matrix cross_entropy_backward(const Matrix& logits, const Indices& targets,
                              const Vector& row_weights) {
  require_length("row weights", row_weights, logits.rows());
  const CrossEntropy forward = cross_entropy_forward(logits, targets);
  Matrix gradient(logits.rows(), logits.cols());
  for (Index row = 0; row < logits.rows(); ++row) {
    gradient.row(row) = (logits.row(row).array() - forward.log_sum_exp(row)).exp().matrix();
    gradient(row, target_of(targets, row)) -= 1;
    gradient.row(row) *= row_weights(row);
  }
  return gradient;
}

}  // namespace pipecast::kernels::reference
