#include "kernels/reference/swiglu.hpp"

#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

/// The product with an infinite x would be 0 * infinity where sigmoid is zero; silu's limit is 0.
double silu(double x) {
  const double gate = sigmoid(x);
  return gate == 0 ? 0 : x * gate;
}

double silu_slope(double x) {
  const double gate = sigmoid(x);
  if (gate == 0 || gate == 1) return gate;
  return gate * (1 + x * (1 - gate));
}

}  // namespace

double sigmoid(double x) {
  if (x >= 0) return 1 / (1 + std::exp(-x));
  const double e = std::exp(x);  // keeps precision where 1 + exp(-x) would overflow
  return e / (1 + e);
}

Matrix swiglu_forward(const Matrix& gate_up) {
  require(gate_up.cols() % 2 == 0, "SwiGLU needs as many gates as ups, not {} columns",
          gate_up.cols());
  const Index width = gate_up.cols() / 2;
  Matrix out(gate_up.rows(), width);
  for (Index row = 0; row < out.rows(); ++row) {
    for (Index column = 0; column < width; ++column) {
      out(row, column) = silu(gate_up(row, column)) * gate_up(row, width + column);
    }
  }
  return out;
}

Matrix swiglu_backward(const Matrix& gate_up, const Matrix& output_gradient) {
  require(gate_up.cols() % 2 == 0, "SwiGLU needs as many gates as ups, not {} columns",
          gate_up.cols());
  const Index width = gate_up.cols() / 2;
  require_extents("output gradient", output_gradient, gate_up.rows(), width);
  Matrix out(gate_up.rows(), gate_up.cols());
  for (Index row = 0; row < out.rows(); ++row) {
    for (Index column = 0; column < width; ++column) {
      const double gate = gate_up(row, column);
      const double gradient = output_gradient(row, column);
      out(row, column) = gradient * gate_up(row, width + column) * silu_slope(gate);
      out(row, width + column) = gradient * silu(gate);
    }
  }
  return out;
}

}  // namespace pipecast::kernels::reference
