/// RMSNorm (Zhang and Sennrich 2019) over every row.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// 1 / sqrt(mean(x^2) + epsilon) of every row.
Vector rms_norm_reciprocals(const Matrix& input, double epsilon);

/// y = w x / sqrt(mean(x^2) + epsilon).
/// @param input   rows x width
/// @param weight  width
Matrix rms_norm_forward(const Matrix& input, const Vector& weight, double epsilon);

struct RmsNormGradients {
  Matrix input{};
  Vector weight{};  // summed over the rows
};

/// With r the reciprocal and n = r x: dw = sum over rows of dy n, dx = r (w dy - n mean(w dy n)).
RmsNormGradients rms_norm_backward(const Matrix& input, const Vector& weight, double epsilon,
                                   const Matrix& output_gradient);

}  // namespace pipecast::kernels::reference
