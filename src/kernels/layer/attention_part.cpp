#include "kernels/layer/attention_part.hpp"

#include <cmath>
#include <utility>

#include "kernels/activation/elementwise.hpp"
#include "kernels/activation/rope.hpp"
#include "kernels/attention/attention_bwd.hpp"
#include "kernels/attention/attention_fwd.hpp"
#include "kernels/quantise/cast_e5m6.hpp"

namespace pipecast::kernels {
namespace {

/// A part of a tensor's rows: where it begins and how far its rows are apart.
struct PartOfRows {
  std::int64_t offset;
  std::int64_t stride;
};

void copy_part(const Buffer<Bf16>& from, const PartOfRows& source, Buffer<Bf16>& to,
               const PartOfRows& destination, int rows, int columns, int sms) {
  copy_strided({.source = from.data() + source.offset,
                .destination = to.data() + destination.offset,
                .source_stride = source.stride,
                .destination_stride = destination.stride,
                .rows = rows,
                .columns = columns,
                .sms = sms});
}

}  // namespace

AttentionPart::AttentionPart(const LayerExtents& extents, const LayerWeights& weights)
    : extents_(extents),
      norm_{weights.matrices.attention_norm, extents.hidden, extents.epsilon, extents.sms},
      query_norm_{weights.matrices.query_norm, extents.query_rank, extents.epsilon, extents.sms},
      key_value_norm_{weights.matrices.key_value_norm, extents.key_value_rank, extents.epsilon,
                      extents.sms},
      query_down_(cast_weights(weights.matrices.query_down, 1, extents.query_rank, extents.hidden,
                               extents.sms)),
      query_up_(cast_weights(weights.matrices.query_up, 1, extents.heads * kQueryKeyWidth,
                             extents.query_rank, extents.sms)),
      key_value_down_(cast_weights(weights.matrices.key_value_down, 1,
                                   extents.key_value_rank + kRotaryWidth, extents.hidden,
                                   extents.sms)),
      key_value_up_(cast_weights(weights.matrices.key_value_up, 1, extents.heads * kKeyValueWidth,
                                 extents.key_value_rank, extents.sms)),
      output_(cast_weights(weights.matrices.attention_output, 1, extents.hidden,
                           extents.heads * kValueWidth, extents.sms)) {}

AttentionSequences AttentionPart::core(const TokenSequences& sequences) const {
  return {.first_query = sequences.first_row.data(),
          .first_key = sequences.first_row.data(),
          .sequences = sequences.sequences,
          .heads = extents_.heads,
          .queries = sequences.tokens,
          .keys = sequences.tokens,
          .longest_queries = sequences.longest,
          .longest_keys = sequences.longest,
          .scale = 1 / std::sqrt(static_cast<float>(kQueryKeyWidth)),
          .causal = true};
}

/// Turns the rotary part, the last of every head, in place.
void AttentionPart::turn(Buffer<Bf16>& tensor, int heads, int head_width,
                         const TokenSequences& sequences, bool backward) const {
  rope({.data = tensor.data() + head_width - kRotaryWidth,
        .positions = sequences.positions.data(),
        .table = sequences.rope_table.data(),
        .table_positions = sequences.longest,
        .rows = sequences.tokens,
        .heads = heads,
        .width = kRotaryWidth,
        .row_stride = static_cast<std::int64_t>(heads) * head_width,
        .head_stride = head_width,
        .backward = backward,
        .sms = extents_.sms});
}

void AttentionPart::split_latent(const Buffer<Bf16>& down, Buffer<Bf16>& latent,
                                 Buffer<Bf16>& rotary_key, int tokens) const {
  const int rank = extents_.key_value_rank;
  const int width = rank + kRotaryWidth;
  copy_part(down, {0, width}, latent, {0, rank}, tokens, rank, extents_.sms);
  copy_part(down, {rank, width}, rotary_key, {0, kRotaryWidth}, tokens, kRotaryWidth, extents_.sms);
}

void AttentionPart::join_latent(const Buffer<Bf16>& latent, const Buffer<Bf16>& rotary_key,
                                Buffer<Bf16>& down, int tokens) const {
  const int rank = extents_.key_value_rank;
  const int width = rank + kRotaryWidth;
  copy_part(latent, {0, rank}, down, {0, width}, tokens, rank, extents_.sms);
  copy_part(rotary_key, {0, kRotaryWidth}, down, {rank, width}, tokens, kRotaryWidth, extents_.sms);
}

/// Keys and values of the heads from the up-projection; all heads take the one rotary key.
void AttentionPart::keys_and_values(const Buffer<Bf16>& up, const Buffer<Bf16>& rotary_key,
                                    AttentionKept& kept, int tokens) const {
  const int head_rows = tokens * extents_.heads;
  kept.key = matrix_buffer<Bf16>(head_rows, kQueryKeyWidth);
  kept.value = matrix_buffer<Bf16>(head_rows, kValueWidth);
  copy_part(up, {0, kKeyValueWidth}, kept.key, {0, kQueryKeyWidth}, head_rows, kPlainWidth,
            extents_.sms);
  copy_part(up, {kPlainWidth, kKeyValueWidth}, kept.value, {0, kValueWidth}, head_rows, kValueWidth,
            extents_.sms);
  elementwise_to_heads({.source = rotary_key.data(),
                        .result = kept.key.data() + kPlainWidth,
                        .shared_stride = kRotaryWidth,
                        .row_stride = static_cast<std::int64_t>(extents_.heads) * kQueryKeyWidth,
                        .head_stride = kQueryKeyWidth,
                        .rows = tokens,
                        .heads = extents_.heads,
                        .columns = kRotaryWidth,
                        .sms = extents_.sms});
}

Buffer<Bf16> AttentionPart::forward(Buffer<Bf16> input, const TokenSequences& sequences,
                                    AttentionKept& kept) const {
  const int tokens = sequences.tokens;
  const int sms = extents_.sms;
  kept.input = std::move(input);
  kept.normed = cast_rows(norm_forward(norm_, kept.input, tokens), tokens, extents_.hidden, sms);

  kept.query_latent = linear_forward(kept.normed, query_down_, sms);
  kept.query_latent_normed = cast_rows(norm_forward(query_norm_, kept.query_latent, tokens), tokens,
                                       extents_.query_rank, sms);
  kept.query = linear_forward(kept.query_latent_normed, query_up_, sms);
  turn(kept.query, extents_.heads, kQueryKeyWidth, sequences, false);

  kept.key_value_latent = matrix_buffer<Bf16>(tokens, extents_.key_value_rank);
  auto rotary_key = matrix_buffer<Bf16>(tokens, kRotaryWidth);
  split_latent(linear_forward(kept.normed, key_value_down_, sms), kept.key_value_latent, rotary_key,
               tokens);
  turn(rotary_key, 1, kRotaryWidth, sequences, false);
  kept.key_value_latent_normed =
      cast_rows(norm_forward(key_value_norm_, kept.key_value_latent, tokens), tokens,
                extents_.key_value_rank, sms);
  keys_and_values(linear_forward(kept.key_value_latent_normed, key_value_up_, sms), rotary_key,
                  kept, tokens);

  const int width = extents_.heads * kValueWidth;
  auto output = matrix_buffer<Bf16>(tokens, width);
  kept.log_sum_exp = matrix_buffer<float>(extents_.heads, tokens);
  attention_fwd({.query = kept.query.data(),
                 .key = kept.key.data(),
                 .value = kept.value.data(),
                 .output = output.data(),
                 .log_sum_exp = kept.log_sum_exp.data(),
                 .sequences = core(sequences),
                 .sms = sms});
  kept.output = matrix_buffer<std::uint8_t>(tokens, width / 2 * 3);
  cast_e5m6({output.data(), kept.output.data(), tokens, width, sms});
  return linear_forward(cast_rows(output, tokens, width, sms), output_, sms);
}

CoreGradients AttentionPart::core_backward(const AttentionKept& kept, const Buffer<Bf16>& output,
                                           const Buffer<Bf16>& output_gradient,
                                           const TokenSequences& sequences) const {
  const int head_rows = sequences.tokens * extents_.heads;
  CoreGradients out{matrix_buffer<Bf16>(head_rows, kQueryKeyWidth),
                    matrix_buffer<Bf16>(head_rows, kQueryKeyWidth),
                    matrix_buffer<Bf16>(head_rows, kValueWidth)};
  const AttentionBwdWorkspace room = attention_bwd_workspace(core(sequences));
  Buffer<float> row_statistics(room.row_statistics);
  Buffer<float> query_sums(room.query_sums);
  Buffer<std::uint32_t> query_turns(room.query_turns);
  const AttentionBwd problem{.query = kept.query.data(),
                             .key = kept.key.data(),
                             .value = kept.value.data(),
                             .output = output.data(),
                             .log_sum_exp = kept.log_sum_exp.data(),
                             .output_gradient = output_gradient.data(),
                             .query_gradient = out.query.data(),
                             .key_gradient = out.key.data(),
                             .value_gradient = out.value.data(),
                             .row_statistics = row_statistics.data(),
                             .query_sums = query_sums.data(),
                             .query_turns = query_turns.data(),
                             .sequences = core(sequences),
                             .sms = extents_.sms};
  attention_bwd_preprocess(problem);
  attention_bwd(problem);
  attention_bwd_convert_dq(problem);
  return out;
}

/// Gradient of the up-projection's output.
Buffer<Bf16> AttentionPart::of_heads(const CoreGradients& of_core, int tokens) const {
  const int head_rows = tokens * extents_.heads;
  auto up = matrix_buffer<Bf16>(head_rows, kKeyValueWidth);
  copy_part(of_core.key, {0, kQueryKeyWidth}, up, {0, kKeyValueWidth}, head_rows, kPlainWidth,
            extents_.sms);
  copy_part(of_core.value, {0, kValueWidth}, up, {kPlainWidth, kKeyValueWidth}, head_rows,
            kValueWidth, extents_.sms);
  return up;
}

/// From the up-projection's output to the normed input by way of the query.
Buffer<Bf16> AttentionPart::query_backward(const AttentionKept& kept, const Buffer<Bf16>& of_query,
                                           int tokens, LayerGradients& gradients) const {
  const int sms = extents_.sms;
  const int width = extents_.heads * kQueryKeyWidth;
  gradients.query_up =
      linear_weight_gradient(cast_columns(of_query, tokens, width, sms),
                             cast_columns(kept.query_latent_normed, nullptr, sms), sms);
  NormPartGradients norm = norm_backward(
      query_norm_, kept.query_latent,
      linear_input_gradient(cast_rows(of_query, tokens, width, sms), query_up_, sms), tokens);
  gradients.query_norm = std::move(norm.weight);
  gradients.query_down =
      linear_weight_gradient(cast_columns(norm.input, tokens, extents_.query_rank, sms),
                             cast_columns(kept.normed, nullptr, sms), sms);
  return linear_input_gradient(cast_rows(norm.input, tokens, extents_.query_rank, sms), query_down_,
                               sms);
}

/// The same by way of keys and values.
Buffer<Bf16> AttentionPart::key_value_backward(const AttentionKept& kept,
                                               const CoreGradients& of_core,
                                               const TokenSequences& sequences,
                                               LayerGradients& gradients) const {
  const int sms = extents_.sms;
  const int tokens = sequences.tokens;
  const int width = extents_.heads * kKeyValueWidth;
  const Buffer<Bf16> of_up = of_heads(of_core, tokens);
  gradients.key_value_up =
      linear_weight_gradient(cast_columns(of_up, tokens, width, sms),
                             cast_columns(kept.key_value_latent_normed, nullptr, sms), sms);
  NormPartGradients norm = norm_backward(
      key_value_norm_, kept.key_value_latent,
      linear_input_gradient(cast_rows(of_up, tokens, width, sms), key_value_up_, sms), tokens);
  gradients.key_value_norm = std::move(norm.weight);

  auto rotary_key = matrix_buffer<Bf16>(tokens, kRotaryWidth);
  elementwise_of_heads({.source = of_core.key.data() + kPlainWidth,
                        .result = rotary_key.data(),
                        .shared_stride = kRotaryWidth,
                        .row_stride = static_cast<std::int64_t>(extents_.heads) * kQueryKeyWidth,
                        .head_stride = kQueryKeyWidth,
                        .rows = tokens,
                        .heads = extents_.heads,
                        .columns = kRotaryWidth,
                        .sms = sms});
  turn(rotary_key, 1, kRotaryWidth, sequences, true);
  const int down_width = extents_.key_value_rank + kRotaryWidth;
  auto of_down = matrix_buffer<Bf16>(tokens, down_width);
  join_latent(norm.input, rotary_key, of_down, tokens);
  gradients.key_value_down = linear_weight_gradient(cast_columns(of_down, tokens, down_width, sms),
                                                    cast_columns(kept.normed, nullptr, sms), sms);
  return linear_input_gradient(cast_rows(of_down, tokens, down_width, sms), key_value_down_, sms);
}

Buffer<Bf16> AttentionPart::backward(const AttentionKept& kept, const Buffer<Bf16>& output_gradient,
                                     const TokenSequences& sequences, CoreGradients& of_core,
                                     LayerGradients& gradients) const {
  const int tokens = sequences.tokens;
  const int sms = extents_.sms;
  const int width = extents_.heads * kValueWidth;
  auto output = matrix_buffer<Bf16>(tokens, width);
  uncast_e5m6({kept.output.data(), output.data(), tokens, width, sms});
  gradients.attention_output =
      linear_weight_gradient(cast_columns(output_gradient, tokens, extents_.hidden, sms),
                             cast_columns(output, tokens, width, sms), sms);
  const Buffer<Bf16> of_output =
      linear_input_gradient(cast_rows(output_gradient, tokens, extents_.hidden, sms), output_, sms);
  of_core = core_backward(kept, output, of_output, sequences);
  turn(of_core.query, extents_.heads, kQueryKeyWidth, sequences, true);

  const Buffer<Bf16> by_query = query_backward(kept, of_core.query, tokens, gradients);
  const Buffer<Bf16> by_key = key_value_backward(kept, of_core, sequences, gradients);
  NormPartGradients norm = norm_backward(
      norm_, kept.input, sum_of(by_query, by_key, tokens, extents_.hidden, sms), tokens);
  gradients.attention_norm = std::move(norm.weight);
  return std::move(norm.input);
}

}  // namespace pipecast::kernels
