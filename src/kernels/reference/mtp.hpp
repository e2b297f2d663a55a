/// The projection at the start of a multi-token prediction module (DeepSeek-V3, section 2.2,
/// equation 21): M [RMSNorm(h); RMSNorm(Emb(t))].
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// Also the gradients of these.
struct MtpTensors {
  Matrix hidden{};            // tokens x width, of the depth before
  Matrix embedding{};         // tokens x width, of the token that comes next
  Vector hidden_weight{};     // width
  Vector embedding_weight{};  // width
  Matrix projection{};        // width x 2 * width
};

/// The input of the module's layer, tokens x width.
Matrix mtp_forward(const MtpTensors& inputs, double epsilon);

MtpTensors mtp_backward(const MtpTensors& inputs, double epsilon, const Matrix& output_gradient);

}  // namespace pipecast::kernels::reference
