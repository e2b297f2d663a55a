/// Multi-head latent attention with its projections (DeepSeek-V3, section 2.1.1, equations 1 to
/// 11), from the layer's input to what is added to it, first RMSNorm included.
#pragma once

#include "kernels/reference/layer_arithmetic.hpp"
#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

struct MlaBlockShape {
  Index hidden{};            // 7168
  Index heads{};             // 128
  Index query_latent{};      // 1536
  Index key_value_latent{};  // 512
  Index plain_width{};       // of queries and keys per head without position, 128
  Index rope_width{};        // and with, 64
  Index value_width{};       // per head, 128
  double epsilon = 1e-6;     // of every RMSNorm
  double rope_base = 10000;
};

/// Also the gradients of these. Matrices are outputs x inputs.
struct MlaBlockWeights {
  Vector norm{};            // hidden
  Matrix query_down{};      // query_latent x hidden
  Vector query_norm{};      // query_latent
  Matrix query_up{};        // heads * (plain, rope) x query_latent
  Matrix key_value_down{};  // (key_value_latent, rope) x hidden
  Vector key_value_norm{};  // key_value_latent
  Matrix key_value_up{};    // heads * (plain, value) x key_value_latent
  Matrix output{};          // hidden x heads * value_width
};

/// What forward made and backward needs, as kept; rows are tokens.
struct MlaBlockActivations {
  Matrix input{};
  Matrix normed{};
  Matrix query_latent{};
  Matrix query_latent_normed{};
  Matrix query{};             // heads * (plain, rope)
  Matrix key_value_latent{};  // (key_value_latent, rope)
  Matrix key_value_latent_normed{};
  Matrix key{};  // heads * (plain, rope)
  Matrix value{};
  Matrix attention{};    // heads * value_width
  Matrix log_sum_exp{};  // tokens x heads
  Matrix output{};       // tokens x hidden, without the residual
  Indices cumulative_lengths{};
};

struct MlaBlockGradients {
  Matrix input{};  // without the residual's share
  MlaBlockWeights weights{};
};

/// Causal attention of each sequence, logits times 1 / sqrt(plain_width + rope_width).
/// @param input  tokens x hidden
MlaBlockActivations mla_block_forward(const MlaBlockShape& shape, const MlaBlockWeights& weights,
                                      const Matrix& input, const Indices& cumulative_lengths,
                                      const LayerArithmetic& arithmetic);

MlaBlockGradients mla_block_backward(const MlaBlockShape& shape, const MlaBlockWeights& weights,
                                     const MlaBlockActivations& kept, const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic);

}  // namespace pipecast::kernels::reference
