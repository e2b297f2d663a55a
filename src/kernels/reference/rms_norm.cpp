#include "kernels/reference/rms_norm.hpp"

#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels::reference {

Vector rms_norm_reciprocals(const Matrix& input, double epsilon) {
  require(input.cols() > 0 && epsilon >= 0, "RMSNorm over {} columns, epsilon {}", input.cols(),
          epsilon);
  Vector out(input.rows());
  for (Index row = 0; row < input.rows(); ++row) {
    const double mean_square = input.row(row).squaredNorm() / static_cast<double>(input.cols());
    out(row) = 1 / std::sqrt(mean_square + epsilon);
  }
  return out;
}

Matrix rms_norm_forward(const Matrix& input, const Vector& weight, double epsilon) {
  require_length("weight", weight, input.cols());
  return rms_norm_reciprocals(input, epsilon).asDiagonal() * input * weight.asDiagonal();
}

RmsNormGradients rms_norm_backward(const Matrix& input, const Vector& weight, double epsilon,
                                   const Matrix& output_gradient) {
  require_length("weight", weight, input.cols());
  require_extents("output gradient", output_gradient, input.rows(), input.cols());
  const Vector reciprocals = rms_norm_reciprocals(input, epsilon);
  RmsNormGradients gradients{Matrix::Zero(input.rows(), input.cols()), Vector::Zero(input.cols())};
  for (Index row = 0; row < input.rows(); ++row) {
    double projection = 0;
    for (Index column = 0; column < input.cols(); ++column) {
      const double normed = reciprocals(row) * input(row, column);
      gradients.weight(column) += output_gradient(row, column) * normed;
      projection += weight(column) * output_gradient(row, column) * normed;
    }
    const double mean = projection / static_cast<double>(input.cols());
    for (Index column = 0; column < input.cols(); ++column) {
      const double normed = reciprocals(row) * input(row, column);
      gradients.input(row, column) =
          reciprocals(row) * (weight(column) * output_gradient(row, column) - normed * mean);
    }
  }
  return gradients;
}

}  // namespace pipecast::kernels::reference
