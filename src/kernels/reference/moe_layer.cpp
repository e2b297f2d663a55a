#include "kernels/reference/moe_layer.hpp"

#include <cmath>
#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"

namespace pipecast::kernels::reference {
namespace {

using enum LayerTensor;

// Spread of the weights of norms and of the bias of the gate: enough to show a factor left out.
constexpr double kNormSpread = 0.1;
constexpr double kBiasSpread = 0.01;

Matrix random_linear(Random& random, Index outputs, Index inputs) {
  const double deviation = 1 / std::sqrt(static_cast<double>(inputs));
  return Matrix::NullaryExpr(outputs, inputs, [&] { return deviation * random.normal(); });
}

Vector random_around(Random& random, Index length, double mean, double spread) {
  return Vector::NullaryExpr(length, [&] { return mean + spread * random.normal(); });
}

}  // namespace

MoeLayerActivations moe_layer_forward(const MoeLayerShape& shape, const MoeLayerWeights& weights,
                                      const MoeLayerInput& input,
                                      const LayerArithmetic& arithmetic) {
  require(shape.attention.hidden == shape.moe.hidden, "hidden size {} in attention, {} in MoE",
          shape.attention.hidden, shape.moe.hidden);
  MoeLayerActivations out;
  const Matrix tokens = arithmetic.keep(kInput, input.tokens);
  out.attention = mla_block_forward(shape.attention, weights.attention, tokens,
                                    input.cumulative_lengths, arithmetic);
  const Matrix sum = arithmetic.keep(kAttentionSum, tokens + out.attention.output);
  out.moe = moe_block_forward(shape.moe, weights.moe, sum, input.experts, arithmetic);
  out.output = arithmetic.keep(kOutput, sum + out.moe.combined + out.moe.shared_output);
  return out;
}

MoeLayerGradients moe_layer_backward(const MoeLayerShape& shape, const MoeLayerWeights& weights,
                                     const MoeLayerActivations& activations,
                                     const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic) {
  MoeLayerGradients out;
  const Matrix of_output = arithmetic.keep_gradient(kOutput, output_gradient);
  MoeBlockGradients moe =
      moe_block_backward(shape.moe, weights.moe, activations.moe, of_output, arithmetic);
  const Matrix of_sum = arithmetic.keep_gradient(kAttentionSum, of_output + moe.input);
  MlaBlockGradients attention = mla_block_backward(shape.attention, weights.attention,
                                                   activations.attention, of_sum, arithmetic);
  out.input = arithmetic.keep_gradient(kInput, of_sum + attention.input);
  out.weights = {.attention = std::move(attention.weights), .moe = std::move(moe.weights)};
  return out;
}

MoeLayerWeights random_weights(const MoeLayerShape& shape, std::uint64_t seed) {
  const MlaBlockShape& mla = shape.attention;
  const MoeBlockShape& moe = shape.moe;
  Random random(seed, "weights of a layer");
  MoeLayerWeights out;
  out.attention.norm = random_around(random, mla.hidden, 1, kNormSpread);
  out.attention.query_down = random_linear(random, mla.query_latent, mla.hidden);
  out.attention.query_norm = random_around(random, mla.query_latent, 1, kNormSpread);
  out.attention.query_up =
      random_linear(random, mla.heads * (mla.plain_width + mla.rope_width), mla.query_latent);
  out.attention.key_value_down =
      random_linear(random, mla.key_value_latent + mla.rope_width, mla.hidden);
  out.attention.key_value_norm = random_around(random, mla.key_value_latent, 1, kNormSpread);
  out.attention.key_value_up =
      random_linear(random, mla.heads * (mla.plain_width + mla.value_width), mla.key_value_latent);
  out.attention.output = random_linear(random, mla.hidden, mla.heads * mla.value_width);
  out.moe.norm = random_around(random, moe.hidden, 1, kNormSpread);
  out.moe.gate = random_linear(random, moe.gate.experts, moe.hidden);
  out.moe.gate_bias = random_around(random, moe.gate.experts, 0, kBiasSpread);
  for (Index expert = 0; expert < moe.gate.experts; ++expert) {
    out.moe.expert_gate_up.push_back(random_linear(random, 2 * moe.expert_width, moe.hidden));
    out.moe.expert_down.push_back(random_linear(random, moe.hidden, moe.expert_width));
  }
  out.moe.shared_gate_up = random_linear(random, 2 * moe.shared_width, moe.hidden);
  out.moe.shared_down = random_linear(random, moe.hidden, moe.shared_width);
  return out;
}

}  // namespace pipecast::kernels::reference
