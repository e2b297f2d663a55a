/// SwiGLU (Shazeer 2020): silu(gate) * up, where silu(x) = x sigmoid(x).
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

double sigmoid(double x);

/// @param gate_up  rows x 2 * width, the gate's elements first
/// @returns        rows x width
Matrix swiglu_forward(const Matrix& gate_up);

/// d gate = dy up sigmoid(gate) (1 + gate (1 - sigmoid(gate))), d up = dy silu(gate).
Matrix swiglu_backward(const Matrix& gate_up, const Matrix& output_gradient);

}  // namespace pipecast::kernels::reference
