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

MlaBlockActivations as_cached(MlaBlockActivations kept, const LayerArithmetic& arithmetic) {
  const auto cache = [&](LayerTensor which, Matrix& tensor) {
    tensor = arithmetic.cached(which, tensor);
  };
  cache(kInput, kept.input);
  cache(kAttentionNormed, kept.normed);
  cache(kQueryLatent, kept.query_latent);
  cache(kQueryLatentNormed, kept.query_latent_normed);
  cache(kQuery, kept.query);
  cache(kKeyValueLatent, kept.key_value_latent);
  cache(kKeyValueLatentNormed, kept.key_value_latent_normed);
  cache(kKey, kept.key);
  cache(kValue, kept.value);
  cache(kAttention, kept.attention);
  return kept;
}

/// What both ways back from the core need.
struct BackwardContext {
  const MlaBlockShape& shape;
  const MlaBlockWeights& weights;
  const MlaBlockActivations& activations;
  const LayerArithmetic& arithmetic;
  Indices positions{};
};

/// From the core to the normed input by way of the query; fills the gradients of its weights.
Matrix query_backward(const BackwardContext& at, const Matrix& of_turned,
                      MlaBlockWeights& of_weights) {
  const Matrix of_query = at.arithmetic.keep_gradient(
      kQueryUnturned, rope_backward(of_turned, at.positions, query_rope(at.shape)));
  of_weights.query_up =
      at.arithmetic.weight_gradient(kQueryUp, of_query, at.activations.query_latent_normed);
  const Matrix of_latent_normed = at.arithmetic.keep_gradient(
      kQueryLatentNormed, at.arithmetic.input_gradient(kQueryUp, of_query, at.weights.query_up));
  const RmsNormGradients norm = rms_norm_backward(
      at.activations.query_latent, at.weights.query_norm, at.shape.epsilon, of_latent_normed);
  of_weights.query_norm = norm.weight;
  const Matrix of_latent = at.arithmetic.keep_gradient(kQueryLatent, norm.input);
  of_weights.query_down =
      at.arithmetic.weight_gradient(kQueryDown, of_latent, at.activations.normed);
  return at.arithmetic.input_gradient(kQueryDown, of_latent, at.weights.query_down);
}

/// The same by way of keys and values.
Matrix key_value_backward(const BackwardContext& at, const Matrix& of_key, const Matrix& of_value,
                          MlaBlockWeights& of_weights) {
  const Matrix of_heads =
      at.arithmetic.keep_gradient(kKeyValueHeads, join_heads(at.shape, of_key, of_value));
  of_weights.key_value_up =
      at.arithmetic.weight_gradient(kKeyValueUp, of_heads, at.activations.key_value_latent_normed);
  const Matrix of_latent_normed = at.arithmetic.keep_gradient(
      kKeyValueLatentNormed,
      at.arithmetic.input_gradient(kKeyValueUp, of_heads, at.weights.key_value_up));
  const RmsNormGradients norm =
      rms_norm_backward(at.activations.key_value_latent.leftCols(at.shape.key_value_latent),
                        at.weights.key_value_norm, at.shape.epsilon, of_latent_normed);
  of_weights.key_value_norm = norm.weight;
  Matrix of_latent(of_key.rows(), at.shape.key_value_latent + at.shape.rope_width);
  of_latent << norm.input,
      rope_backward(sum_rotary(at.shape, of_key), at.positions, key_rope(at.shape));
  of_latent = at.arithmetic.keep_gradient(kKeyValueLatent, of_latent);
  of_weights.key_value_down =
      at.arithmetic.weight_gradient(kKeyValueDown, of_latent, at.activations.normed);
  return at.arithmetic.input_gradient(kKeyValueDown, of_latent, at.weights.key_value_down);
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
  const Matrix unturned = arithmetic.keep(
      kQueryUnturned, arithmetic.forward(kQueryUp, out.query_latent_normed, weights.query_up));
  out.query = arithmetic.keep(kQuery, rope_forward(unturned, positions, query_rope(shape)));

  out.key_value_latent = arithmetic.keep(
      kKeyValueLatent, arithmetic.forward(kKeyValueDown, out.normed, weights.key_value_down));
  out.key_value_latent_normed = arithmetic.keep(
      kKeyValueLatentNormed, rms_norm_forward(out.key_value_latent.leftCols(shape.key_value_latent),
                                              weights.key_value_norm, shape.epsilon));
  const Matrix rotary_key =
      rope_forward(out.key_value_latent.rightCols(shape.rope_width), positions, key_rope(shape));
  const Matrix up = arithmetic.keep(
      kKeyValueHeads,
      arithmetic.forward(kKeyValueUp, out.key_value_latent_normed, weights.key_value_up));
  const KeysAndValues heads = split_heads(shape, up, rotary_key);
  out.key = arithmetic.keep(kKey, heads.key);
  out.value = arithmetic.keep(kValue, heads.value);

  const AttentionResult attention =
      attention_forward(attention_case(shape, cumulative_lengths), {out.query, out.key, out.value});
  out.attention = arithmetic.keep(kAttention, attention.output);
  out.log_sum_exp = attention.log_sum_exp;
  out.output = arithmetic.keep(kAttentionProjected,
                               arithmetic.forward(kAttentionOutput, out.attention, weights.output));
  return out;
}

MlaBlockGradients mla_block_backward(const MlaBlockShape& shape, const MlaBlockWeights& weights,
                                     const MlaBlockActivations& kept, const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic) {
  check(shape, weights);
  require_extents("output gradient", output_gradient, kept.input.rows(), shape.hidden);
  const MlaBlockActivations activations = as_cached(kept, arithmetic);
  MlaBlockGradients out;
  const Matrix of_projected = arithmetic.keep_gradient(kAttentionProjected, output_gradient);
  out.weights.output =
      arithmetic.weight_gradient(kAttentionOutput, of_projected, activations.attention);
  const Matrix of_attention = arithmetic.keep_gradient(
      kAttention, arithmetic.input_gradient(kAttentionOutput, of_projected, weights.output));
  const AttentionTensors of_core = attention_backward(
      attention_case(shape, activations.cumulative_lengths),
      {activations.query, activations.key, activations.value}, activations.attention, of_attention);

  const BackwardContext at{shape, weights, activations, arithmetic,
                           positions_in_sequences(activations.cumulative_lengths)};
  Matrix of_normed =
      query_backward(at, arithmetic.keep_gradient(kQuery, of_core.query), out.weights);
  of_normed += key_value_backward(at, arithmetic.keep_gradient(kKey, of_core.key),
                                  arithmetic.keep_gradient(kValue, of_core.value), out.weights);
  const RmsNormGradients norm =
      rms_norm_backward(activations.input, weights.norm, shape.epsilon,
                        arithmetic.keep_gradient(kAttentionNormed, of_normed));
  out.weights.norm = norm.weight;
  out.input = norm.input;
  return out;
}

}  // namespace pipecast::kernels::reference
