#include "kernels/reference/mtp.hpp"

#include "kernels/reference/gemm.hpp"
#include "kernels/reference/rms_norm.hpp"

namespace pipecast::kernels::reference {
namespace {

Matrix normed_pairs(const MtpTensors& inputs, double epsilon) {
  const Index width = inputs.hidden.cols();
  require_extents("embedding", inputs.embedding, inputs.hidden.rows(), width);
  Matrix pairs(inputs.hidden.rows(), 2 * width);
  pairs << rms_norm_forward(inputs.hidden, inputs.hidden_weight, epsilon),
      rms_norm_forward(inputs.embedding, inputs.embedding_weight, epsilon);
  return pairs;
}

}  // namespace

Matrix mtp_forward(const MtpTensors& inputs, double epsilon) {
  const Index width = inputs.hidden.cols();
  require_extents("projection", inputs.projection, width, 2 * width);
  return product(normed_pairs(inputs, epsilon), inputs.projection);
}

MtpTensors mtp_backward(const MtpTensors& inputs, double epsilon, const Matrix& output_gradient) {
  const Index width = inputs.hidden.cols();
  require_extents("projection", inputs.projection, width, 2 * width);
  require_extents("output gradient", output_gradient, inputs.hidden.rows(), width);
  const Matrix of_pairs = product(output_gradient, inputs.projection.transpose());
  const RmsNormGradients hidden =
      rms_norm_backward(inputs.hidden, inputs.hidden_weight, epsilon, of_pairs.leftCols(width));
  const RmsNormGradients embedding = rms_norm_backward(inputs.embedding, inputs.embedding_weight,
                                                       epsilon, of_pairs.rightCols(width));
  return {.hidden = hidden.input,
          .embedding = embedding.input,
          .hidden_weight = hidden.weight,
          .embedding_weight = embedding.weight,
          .projection =
              product(output_gradient.transpose(), normed_pairs(inputs, epsilon).transpose())};
}

}  // namespace pipecast::kernels::reference
