#include "kernels/layer/experts_part.hpp"

#include <utility>

#include "kernels/activation/fp32_lists.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/gemm/bf16_gemm.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/routing/gate.hpp"

namespace pipecast::kernels {
namespace {

RowPlaces places_of(const RoutedRows& rows) {
  return {.row_of_choice = rows.row_of_choice.data(),
          .choice_of_row = rows.choice_of_row.data(),
          .rows = rows.first_row.data() + rows.first_row.size() - 1,
          .tokens = rows.tokens,
          .top_k = rows.top_k,
          .capacity = rows.capacity};
}

GateAndUp kept_inputs(const RowsFp8& gate_up) {
  return {.values = nullptr,
          .codes = gate_up.codes.data(),
          .scales = gate_up.scales.data(),
          .order = gate_up.order};
}

/// What was sent, with its scales as products read them.
RowsFp8 by_tile(RowsFp8 sent, int sms) {
  Buffer<float> scales = scales_by_tile(sent, sms);
  return {std::move(sent.codes), std::move(scales), ScaleOrder::kByTile, sent.rows, sent.columns};
}

}  // namespace

ExpertsPart::ExpertsPart(const LayerExtents& extents, const LayerWeights& weights)
    : extents_(extents),
      weights_(weights),
      norm_{weights.matrices.mlp_norm, extents.hidden, extents.epsilon, extents.sms},
      expert_gate_up_(cast_weights(weights.matrices.expert_gate_up, extents.experts,
                                   2 * extents.expert_width, extents.hidden, extents.sms)),
      expert_down_(cast_weights(weights.matrices.expert_down, extents.experts, extents.hidden,
                                extents.expert_width, extents.sms)),
      shared_gate_up_(cast_weights(weights.matrices.shared_gate_up, 1, 2 * extents.shared_width,
                                   extents.hidden, extents.sms)),
      shared_down_(cast_weights(weights.matrices.shared_down, 1, extents.hidden,
                                extents.shared_width, extents.sms)) {}

void ExpertsPart::route(const Buffer<Bf16>& normed, int tokens, ExpertsKept& kept) const {
  kept.logits = matrix_buffer<float>(tokens, extents_.experts);
  gate_gemm_fwd({tokens, extents_.experts, extents_.hidden, extents_.sms}, normed.data(),
                weights_.matrices.gate.data(), kept.logits.data());
  kept.chosen = matrix_buffer<int>(tokens, extents_.top_k);
  kept.weights = matrix_buffer<float>(tokens, extents_.top_k);
  gate_topk({.logits_fp32 = kept.logits.data(),
             .logits_bf16 = nullptr,
             .bias = weights_.gate_bias.data(),
             .chosen = kept.chosen.data(),
             .weights = kept.weights.data(),
             .tokens = tokens,
             .experts = extents_.experts,
             .groups = extents_.groups,
             .top_groups = extents_.top_groups,
             .top_k = extents_.top_k,
             .scale = extents_.routing_scale,
             .sms = extents_.sms});
  kept.places = place(kept.chosen, tokens);
}

RoutedRows ExpertsPart::place(const Buffer<int>& chosen, int tokens) const {
  const int top_k = extents_.top_k;
  RoutedRows out{matrix_buffer<int>(tokens, top_k),
                 {},
                 matrix_buffer<int>(extents_.experts + 1, 1),
                 tokens,
                 top_k,
                 0,
                 0};
  // Every expert may leave all but one of 128 rows open.
  out.capacity = padded_tokens(tokens * top_k + extents_.experts * (kScaleTile - 1));
  out.choice_of_row = matrix_buffer<int>(out.capacity, 1);
  auto counts = matrix_buffer<int>(extents_.experts, 1);
  Buffer<int> workspace(permute_map_workspace(tokens, top_k, extents_.experts));
  permute_map({.chosen = chosen.data(),
               .row_of_choice = out.row_of_choice.data(),
               .choice_of_row = out.choice_of_row.data(),
               .first_row = out.first_row.data(),
               .counts = counts.data(),
               .workspace = workspace.data(),
               .tokens = tokens,
               .top_k = top_k,
               .experts = extents_.experts,
               .alignment = kScaleTile,
               .capacity = out.capacity,
               .sms = extents_.sms});
  // The host has to know how many rows there are, as it learns from the dispatch of other GPUs.
  synchronise();
  out.rows = out.first_row[out.first_row.size() - 1];
  return out;
}

RowsFp8 ExpertsPart::to_rows(const RowsFp8& sent, const RoutedRows& places) const {
  const int tiles = sent.columns / kScaleTile;
  RowsFp8 out{matrix_buffer<E4m3>(places.rows, sent.columns),
              matrix_buffer<float>(tiles, places.rows), ScaleOrder::kByTile, places.rows,
              sent.columns};
  permute_with_scales({.tokens = sent.codes.data(),
                       .token_scales = sent.scales.data(),
                       .rows = out.codes.data(),
                       .row_scales = out.scales.data(),
                       .row_step = 1,
                       .block_step = places.rows,
                       .places = places_of(places),
                       .columns = sent.columns,
                       .sms = extents_.sms});
  return out;
}

Buffer<Bf16> ExpertsPart::to_tokens(const Buffer<Bf16>& rows, const float* weights,
                                    const RoutedRows& places) const {
  auto out = matrix_buffer<Bf16>(places.tokens, extents_.hidden);
  unpermute_reduce({.rows = rows.data(),
                    .weights = weights,
                    .tokens = out.data(),
                    .places = places_of(places),
                    .columns = extents_.hidden,
                    .sms = extents_.sms});
  return out;
}

RowsFp8 ExpertsPart::activated(const Buffer<Bf16>& gate_up, int rows, int width) const {
  RowsFp8 out{matrix_buffer<E4m3>(rows, width), matrix_buffer<float>(width / kScaleTile, rows),
              ScaleOrder::kByTile, rows, width};
  swiglu_fwd_and_cast_fp8({.gate_up = gate_up.data(),
                           .codes = out.codes.data(),
                           .scales = out.scales.data(),
                           .order = out.order,
                           .rows = rows,
                           .width = width,
                           .sms = extents_.sms});
  return out;
}

Buffer<Bf16> ExpertsPart::forward(Buffer<Bf16> input, int tokens, ExpertsKept& kept) const {
  const int sms = extents_.sms;
  kept.input = std::move(input);
  const Buffer<Bf16> normed = norm_forward(norm_, kept.input, tokens);
  route(normed, tokens, kept);
  RowsFp8 sent = cast_to_send(normed, tokens, extents_.hidden, sms);
  kept.routed = to_rows(sent, kept.places);
  kept.sent = by_tile(std::move(sent), sms);

  const int rows = kept.places.rows;
  const Buffer<int>& first_row = kept.places.first_row;
  const Buffer<Bf16> gate_up = experts_forward(kept.routed, expert_gate_up_, first_row, sms);
  kept.routed_gate_up = cast_rows(gate_up, rows, 2 * extents_.expert_width, sms);
  const Buffer<Bf16> output = experts_forward(activated(gate_up, rows, extents_.expert_width),
                                              expert_down_, first_row, sms);
  const Buffer<Bf16> combined = to_tokens(output, kept.weights.data(), kept.places);

  const Buffer<Bf16> shared = linear_forward(kept.sent, shared_gate_up_, sms);
  kept.shared_gate_up = cast_rows(shared, tokens, 2 * extents_.shared_width, sms);
  const Buffer<Bf16> shared_output =
      linear_forward(activated(shared, tokens, extents_.shared_width), shared_down_, sms);
  return sum_of(combined, shared_output, tokens, extents_.hidden, sms);
}

Buffer<Bf16> ExpertsPart::routed_backward(const ExpertsKept& kept, const RowsFp8& sent_gradient,
                                          Buffer<float>& of_weights,
                                          LayerGradients& gradients) const {
  const int sms = extents_.sms;
  const int rows = kept.places.rows;
  const int width = extents_.expert_width;
  const Buffer<int>& first_row = kept.places.first_row;
  const RowsFp8 of_output = to_rows(sent_gradient, kept.places);
  const Buffer<Bf16> of_hidden = experts_input_gradient(of_output, expert_down_, first_row, sms);

  auto row_weight = matrix_buffer<float>(rows, 1);
  gather_fp32(
      {kept.weights.data(), kept.places.choice_of_row.data(), row_weight.data(), rows, sms});
  auto hidden = matrix_buffer<Bf16>(rows, width);
  auto of_gate_up = matrix_buffer<Bf16>(rows, 2 * width);
  const Buffer<Bf16> gate_up = uncast(kept.routed_gate_up, sms);
  swiglu_fwd_bwd_routed({.gate_up = gate_up.data(),
                         .output_gradient = of_hidden.data(),
                         .row_weight = row_weight.data(),
                         .output = hidden.data(),
                         .gate_up_gradient = of_gate_up.data(),
                         .rows = rows,
                         .width = width,
                         .sms = sms});
  swiglu_weight_bwd({.output = hidden.data(),
                     .output_gradient = of_hidden.data(),
                     .choice_of_row = kept.places.choice_of_row.data(),
                     .weight_gradient = of_weights.data(),
                     .rows = rows,
                     .width = width,
                     .sms = sms});
  gradients.expert_down =
      experts_weight_gradient(cast_columns(of_output, row_weight.data(), sms),
                              cast_columns(hidden, rows, width, sms), first_row, sms);
  gradients.expert_gate_up =
      experts_weight_gradient(cast_columns(of_gate_up, rows, 2 * width, sms),
                              cast_columns(kept.routed, nullptr, sms), first_row, sms);
  const Buffer<Bf16> of_rows = experts_input_gradient(cast_rows(of_gate_up, rows, 2 * width, sms),
                                                      expert_gate_up_, first_row, sms);
  return to_tokens(of_rows, nullptr, kept.places);
}

Buffer<Bf16> ExpertsPart::shared_backward(const ExpertsKept& kept, const RowsFp8& sent_gradient,
                                          LayerGradients& gradients) const {
  const int sms = extents_.sms;
  const int tokens = sent_gradient.rows;
  const int width = extents_.shared_width;
  const Buffer<Bf16> of_hidden = linear_input_gradient(sent_gradient, shared_down_, sms);
  ColumnsFp8 hidden{matrix_buffer<E4m3>(width, padded_tokens(tokens)),
                    matrix_buffer<float>(padded_tokens(tokens) / kScaleTile, width), width,
                    padded_tokens(tokens)};
  swiglu_recompute_and_cast_transpose({.gate_up = kept_inputs(kept.shared_gate_up),
                                       .transposed = hidden.codes.data(),
                                       .new_scales = hidden.scales.data(),
                                       .rows = tokens,
                                       .width = width,
                                       .sms = sms});
  gradients.shared_down =
      linear_weight_gradient(cast_columns(sent_gradient, nullptr, sms), hidden, sms);
  auto of_gate_up = matrix_buffer<Bf16>(tokens, 2 * width);
  swiglu_bwd_shared({.gate_up = kept_inputs(kept.shared_gate_up),
                     .output_gradient = of_hidden.data(),
                     .gate_up_gradient = of_gate_up.data(),
                     .rows = tokens,
                     .width = width,
                     .sms = sms});
  gradients.shared_gate_up = linear_weight_gradient(
      cast_columns(of_gate_up, tokens, 2 * width, sms), cast_columns(kept.sent, nullptr, sms), sms);
  return linear_input_gradient(cast_rows(of_gate_up, tokens, 2 * width, sms), shared_gate_up_, sms);
}

Buffer<Bf16> ExpertsPart::gate_backward(const ExpertsKept& kept, const Buffer<float>& of_weights,
                                        int tokens, LayerGradients& gradients) const {
  const int experts = extents_.experts;
  const GateGemm gate{tokens, experts, extents_.hidden, extents_.sms};
  auto of_logits = matrix_buffer<float>(tokens, experts);
  gate_topk_bwd({.logits_fp32 = kept.logits.data(),
                 .logits_bf16 = nullptr,
                 .chosen = kept.chosen.data(),
                 .weights_grad = of_weights.data(),
                 .logits_grad_fp32 = of_logits.data(),
                 .logits_grad_bf16 = nullptr,
                 .tokens = tokens,
                 .experts = experts,
                 .top_k = extents_.top_k,
                 .scale = extents_.routing_scale,
                 .sms = extents_.sms});
  auto of_scores = matrix_buffer<Bf16>(tokens, experts);
  round_bf16({of_logits.data(), of_scores.data(), static_cast<std::int64_t>(tokens) * experts,
              extents_.sms});
  const Buffer<Bf16> normed = norm_forward(norm_, kept.input, tokens);
  gradients.gate = zeros(experts, extents_.hidden);
  gate_gemm_wgrad(gate, of_scores.data(), normed.data(), gradients.gate.data());
  auto of_normed = matrix_buffer<Bf16>(tokens, extents_.hidden);
  gate_gemm_dgrad(gate, of_scores.data(), weights_.matrices.gate.data(), of_normed.data());
  return of_normed;
}

Buffer<Bf16> ExpertsPart::backward(const ExpertsKept& kept, const Buffer<Bf16>& output_gradient,
                                   int tokens, LayerGradients& gradients) const {
  const int sms = extents_.sms;
  RowsFp8 sent = cast_to_send(output_gradient, tokens, extents_.hidden, sms);
  Buffer<float> of_weights = zeros(tokens, extents_.top_k);
  const Buffer<Bf16> routed = routed_backward(kept, sent, of_weights, gradients);
  const Buffer<Bf16> shared = shared_backward(kept, by_tile(std::move(sent), sms), gradients);
  const Buffer<Bf16> gate = gate_backward(kept, of_weights, tokens, gradients);
  const Buffer<Bf16> experts = sum_of(routed, shared, tokens, extents_.hidden, sms);
  NormPartGradients norm =
      norm_backward(norm_, kept.input, sum_of(experts, gate, tokens, extents_.hidden, sms), tokens);
  gradients.mlp_norm = std::move(norm.weight);
  return std::move(norm.input);
}

}  // namespace pipecast::kernels
