#include "kernels/reference/mla_block.hpp"

#include <cmath>

#include "base/error.hpp"
#include "kernels/reference/attention.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "kernels/reference/rope.hpp"

namespace pipecast::kernels::reference {
namespace {

using enum LayerLinear;
using enum LayerTensor;

Index query_key_width(const MlaBlockShape& shape) { return shape.plain_width + shape.rope_width; }

void check(const MlaBlockShape& shape, const MlaBlockWeights& weights) {
  require_length("attention norm", weights.norm, shape.hidden);
  require_extents("query down", weights.query_down, shape.query_latent, shape.hidden);
  require_length("query norm", weights.query_norm, shape.query_latent);
  require_extents("query up", weights.query_up, shape.heads * query_key_width(shape),
                  shape.query_latent);
  require_extents("key-value down", weights.key_value_down,
                  shape.key_value_latent + shape.rope_width, shape.hidden);
  require_length("key-value norm", weights.key_value_norm, shape.key_value_latent);
  require_extents("key-value up", weights.key_value_up,
                  shape.heads * (shape.plain_width + shape.value_width), shape.key_value_latent);
  require_extents("attention output", weights.output, shape.hidden,
                  shape.heads * shape.value_width);
}

RopeLayout query_rope(const MlaBlockShape& shape) {
  return {.head_width = query_key_width(shape),
          .rope_offset = shape.plain_width,
          .rope_width = shape.rope_width,
          .base = shape.rope_base};
}

RopeLayout key_rope(const MlaBlockShape& shape) {
  return {.head_width = shape.rope_width, .rope_width = shape.rope_width, .base = shape.rope_base};
}

AttentionCase attention_case(const MlaBlockShape& shape, const Indices& cumulative_lengths) {
  return {.heads = shape.heads,
          .query_key_width = query_key_width(shape),
          .value_width = shape.value_width,
          .scale = 1 / std::sqrt(static_cast<double>(query_key_width(shape))),
          .causal = true,
          .cumulative_lengths = cumulative_lengths};
}

struct KeysAndValues {
  Matrix key{};
  Matrix value{};
};

/// Heads of keys and values out of the up-projection; all heads take the one rotary key.
KeysAndValues split_heads(const MlaBlockShape& shape, const Matrix& up, const Matrix& rotary_key) {
  const Index plain = shape.plain_width;
  const Index value = shape.value_width;
  KeysAndValues out{Matrix(up.rows(), shape.heads * query_key_width(shape)),
                    Matrix(up.rows(), shape.heads * value)};
  for (Index head = 0; head < shape.heads; ++head) {
    const Index from = head * (plain + value);
    const Index to = head * query_key_width(shape);
    out.key.middleCols(to, plain) = up.middleCols(from, plain);
    out.key.middleCols(to + plain, shape.rope_width) = rotary_key;
    out.value.middleCols(head * value, value) = up.middleCols(from + plain, value);
  }
  return out;
}

/// Gradient of the up-projection's output.
Matrix join_heads(const MlaBlockShape& shape, const Matrix& key, const Matrix& value) {
  const Index plain = shape.plain_width;
  const Index width = plain + shape.value_width;
  Matrix up(key.rows(), shape.heads * width);
  for (Index head = 0; head < shape.heads; ++head) {
    up.middleCols(head * width, plain) = key.middleCols(head * query_key_width(shape), plain);
    up.middleCols(head * width + plain, shape.value_width) =
        value.middleCols(head * shape.value_width, shape.value_width);
  }
  return up;
}

/// Gradient of the turned rotary key, which every head used.
Matrix sum_rotary(const MlaBlockShape& shape, const Matrix& key) {
  Matrix sum = Matrix::Zero(key.rows(), shape.rope_width);
  for (Index head = 0; head < shape.heads; ++head) {
    sum += key.middleCols(head * query_key_width(shape) + shape.plain_width, shape.rope_width);
  }
  return sum;
}

}  // namespace

MlaBlockActivations mla_block_forward(const MlaBlockShape& shape, const MlaBlockWeights& weights,
                                      const Matrix& input, const Indices& cumulative_lengths,
                                      const LayerArithmetic& arithmetic) {
  check(shape, weights);
  require_extents("input", input, input.rows(), shape.hidden);
  const Indices positions = positions_in_sequences(cumulative_lengths);
  MlaBlockActivations out;
  out.cumulative_lengths = cumulative_lengths;
  out.input = input;
  out.normed =
      arithmetic.keep(kAttentionNormed, rms_norm_forward(input, weights.norm, shape.epsilon));

  out.query_latent =
      arithmetic.keep(kQueryLatent, arithmetic.forward(kQueryDown, out.normed, weights.query_down));
  out.query_latent_normed = arithmetic.keep(
      kQueryLatentNormed, rms_norm_forward(out.query_latent, weights.query_norm, shape.epsilon));
  out.query = arithmetic.keep(
      kQuery, rope_forward(arithmetic.forward(kQueryUp, out.query_latent_normed, weights.query_up),
                           positions, query_rope(shape)));

  out.key_value_latent = arithmetic.keep(
      kKeyValueLatent, arithmetic.forward(kKeyValueDown, out.normed, weights.key_value_down));
  out.key_value_latent_normed = arithmetic.keep(
      kKeyValueLatentNormed, rms_norm_forward(out.key_value_latent.leftCols(shape.key_value_latent),
                                              weights.key_value_norm, shape.epsilon));
  const Matrix rotary_key =
      rope_forward(out.key_value_latent.rightCols(shape.rope_width), positions, key_rope(shape));
  const KeysAndValues heads = split_heads(
      shape, arithmetic.forward(kKeyValueUp, out.key_value_latent_normed, weights.key_value_up),
      rotary_key);
  out.key = arithmetic.keep(kKey, heads.key);
  out.value = arithmetic.keep(kValue, heads.value);

  const AttentionResult attention =
      attention_forward(attention_case(shape, cumulative_lengths), {out.query, out.key, out.value});
  out.attention = arithmetic.keep(kAttention, attention.output);
  out.log_sum_exp = attention.log_sum_exp;
  out.output = arithmetic.forward(kAttentionOutput, out.attention, weights.output);
  return out;
}

MlaBlockGradients mla_block_backward(const MlaBlockShape& shape, const MlaBlockWeights& weights,
                                     const MlaBlockActivations& activations,
                                     const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic) {
  check(shape, weights);
  require_extents("output gradient", output_gradient, activations.input.rows(), shape.hidden);
  const Indices positions = positions_in_sequences(activations.cumulative_lengths);
  MlaBlockGradients out;
  out.weights.output =
      arithmetic.weight_gradient(kAttentionOutput, output_gradient, activations.attention);
  const Matrix of_attention = arithmetic.keep_gradient(
      kAttention, arithmetic.input_gradient(kAttentionOutput, output_gradient, weights.output));
  const AttentionTensors of_core =
      attention_backward(attention_case(shape, activations.cumulative_lengths),
                         {activations.query, activations.key, activations.value}, of_attention);

  const Matrix of_query =
      rope_backward(arithmetic.keep_gradient(kQuery, of_core.query), positions, query_rope(shape));
  out.weights.query_up =
      arithmetic.weight_gradient(kQueryUp, of_query, activations.query_latent_normed);
  const RmsNormGradients query_norm = rms_norm_backward(
      activations.query_latent, weights.query_norm, shape.epsilon,
      arithmetic.keep_gradient(kQueryLatentNormed,
                               arithmetic.input_gradient(kQueryUp, of_query, weights.query_up)));
  out.weights.query_norm = query_norm.weight;
  const Matrix of_query_latent = arithmetic.keep_gradient(kQueryLatent, query_norm.input);
  out.weights.query_down =
      arithmetic.weight_gradient(kQueryDown, of_query_latent, activations.normed);

  const Matrix of_key = arithmetic.keep_gradient(kKey, of_core.key);
  const Matrix of_up = join_heads(shape, of_key, arithmetic.keep_gradient(kValue, of_core.value));
  out.weights.key_value_up =
      arithmetic.weight_gradient(kKeyValueUp, of_up, activations.key_value_latent_normed);
  const RmsNormGradients key_value_norm =
      rms_norm_backward(activations.key_value_latent.leftCols(shape.key_value_latent),
                        weights.key_value_norm, shape.epsilon,
                        arithmetic.keep_gradient(
                            kKeyValueLatentNormed,
                            arithmetic.input_gradient(kKeyValueUp, of_up, weights.key_value_up)));
  out.weights.key_value_norm = key_value_norm.weight;
  Matrix of_latent(activations.key_value_latent.rows(), activations.key_value_latent.cols());
  of_latent << key_value_norm.input,
      rope_backward(sum_rotary(shape, of_key), positions, key_rope(shape));
  of_latent = arithmetic.keep_gradient(kKeyValueLatent, of_latent);
  out.weights.key_value_down =
      arithmetic.weight_gradient(kKeyValueDown, of_latent, activations.normed);

  const Matrix of_normed = arithmetic.keep_gradient(
      kAttentionNormed,
      arithmetic.input_gradient(kQueryDown, of_query_latent, weights.query_down) +
          arithmetic.input_gradient(kKeyValueDown, of_latent, weights.key_value_down));
  const RmsNormGradients norm =
      rms_norm_backward(activations.input, weights.norm, shape.epsilon, of_normed);
  out.weights.norm = norm.weight;
  out.input = norm.input;
  return out;
}

}  // namespace pipecast::kernels::reference
