#include "kernels/reference/layer_arithmetic.hpp"

#include "kernels/reference/gemm.hpp"

namespace pipecast::kernels::reference {

Matrix LayerArithmetic::cached(LayerTensor, const Matrix& kept) const { return kept; }

Matrix LayerArithmetic::forward(LayerLinear linear, const Matrix& input,
                                const Matrix& weight) const {
  return product({linear, LinearPass::kForward}, input, weight);
}

Matrix LayerArithmetic::input_gradient(LayerLinear linear, const Matrix& output_gradient,
                                       const Matrix& weight) const {
  return product({linear, LinearPass::kInputGradient}, output_gradient, weight.transpose());
}

Matrix LayerArithmetic::weight_gradient(LayerLinear linear, const Matrix& output_gradient,
                                        const Matrix& input) const {
  return product({linear, LinearPass::kWeightGradient}, output_gradient.transpose(),
                 input.transpose());
}

Matrix ExactArithmetic::product(LinearProduct, const Matrix& a, const Matrix& b) const {
  return reference::product(a, b);
}

Matrix ExactArithmetic::keep(LayerTensor, const Matrix& tensor) const { return tensor; }

Matrix ExactArithmetic::keep_gradient(LayerTensor, const Matrix& gradient) const {
  return gradient;
}

}  // namespace pipecast::kernels::reference
