#include "kernels/reference/moe_block.hpp"

#include "base/error.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "kernels/reference/swiglu.hpp"

namespace pipecast::kernels::reference {
namespace {

using enum LayerLinear;
using enum LayerTensor;

void check(const MoeBlockShape& shape, const MoeBlockWeights& weights) {
  const auto experts = static_cast<std::size_t>(shape.gate.experts);
  require_length("norm", weights.norm, shape.hidden);
  require_extents("gate", weights.gate, shape.gate.experts, shape.hidden);
  require_length("gate bias", weights.gate_bias, shape.gate.experts);
  require(weights.expert_gate_up.size() == experts && weights.expert_down.size() == experts,
          "weights of {} and {} experts, not {}", weights.expert_gate_up.size(),
          weights.expert_down.size(), experts);
  for (std::size_t expert = 0; expert < experts; ++expert) {
    require_extents("expert gate and up", weights.expert_gate_up[expert], 2 * shape.expert_width,
                    shape.hidden);
    require_extents("expert down", weights.expert_down[expert], shape.hidden, shape.expert_width);
  }
  require_extents("shared gate and up", weights.shared_gate_up, 2 * shape.shared_width,
                  shape.hidden);
  require_extents("shared down", weights.shared_down, shape.hidden, shape.shared_width);
}

/// The rows of one expert within the routed rows.
struct ExpertRows {
  std::size_t expert{};
  Index first{};
  Index count{};
};

/// Calls visit(rows) for every expert that received any.
template <class Visit>
void for_each_expert(const PermutedRows& order, Visit visit) {
  for (std::size_t expert = 0; expert < order.counts.size(); ++expert) {
    if (order.counts[expert] == 0) continue;
    visit(ExpertRows{expert, order.offsets[expert], order.counts[expert]});
  }
}

Matrix experts_forward(const LayerArithmetic& arithmetic, LayerLinear linear,
                       const PermutedRows& order, const Matrix& input,
                       const std::vector<Matrix>& weights) {
  Matrix out = Matrix::Zero(input.rows(), weights.front().rows());
  for_each_expert(order, [&](const ExpertRows& at) {
    out.middleRows(at.first, at.count) =
        arithmetic.forward(linear, input.middleRows(at.first, at.count), weights[at.expert]);
  });
  return out;
}

Matrix experts_input_gradient(const LayerArithmetic& arithmetic, LayerLinear linear,
                              const PermutedRows& order, const Matrix& output_gradient,
                              const std::vector<Matrix>& weights) {
  Matrix out = Matrix::Zero(output_gradient.rows(), weights.front().cols());
  for_each_expert(order, [&](const ExpertRows& at) {
    out.middleRows(at.first, at.count) = arithmetic.input_gradient(
        linear, output_gradient.middleRows(at.first, at.count), weights[at.expert]);
  });
  return out;
}

std::vector<Matrix> experts_weight_gradient(const LayerArithmetic& arithmetic, LayerLinear linear,
                                            const PermutedRows& order,
                                            const Matrix& output_gradient, const Matrix& input) {
  std::vector<Matrix> out(order.counts.size(), Matrix::Zero(output_gradient.cols(), input.cols()));
  for_each_expert(order, [&](const ExpertRows& at) {
    out[at.expert] =
        arithmetic.weight_gradient(linear, output_gradient.middleRows(at.first, at.count),
                                   input.middleRows(at.first, at.count));
  });
  return out;
}

/// Each routed row times its weight.
Matrix weighted(const Matrix& rows, const Matrix& weights, const PermutedRows& order) {
  Matrix out = Matrix::Zero(rows.rows(), rows.cols());
  for (std::size_t row = 0; row < order.rows.size(); ++row) {
    const auto& at = order.rows[row];
    const auto index = static_cast<Index>(row);
    if (at) out.row(index) = weights(at->token, at->slot) * rows.row(index);
  }
  return out;
}

/// Gradients of the routing weights: each expert's output is linear in its hidden row, so that the
/// product of output and its gradient is that of the hidden row and its gradient.
Matrix of_weights(const Matrix& hidden, const Matrix& of_hidden, const PermutedRows& order) {
  Matrix out = Matrix::Zero(order.tokens, order.slots);
  for (std::size_t row = 0; row < order.rows.size(); ++row) {
    const auto& at = order.rows[row];
    const auto index = static_cast<Index>(row);
    if (at) out(at->token, at->slot) = hidden.row(index).dot(of_hidden.row(index));
  }
  return out;
}

/// Through the routed experts: fills their weights' gradients, returns that of the routing weights
/// and adds the tokens' to of_normed. Gradients reach the experts without the routing weights,
/// which come in behind the down projection, as in DeepSeek-V3's own training (its published trace
/// of one chunk).
Matrix routed_backward(const MoeBlockWeights& weights, const MoeBlockActivations& activations,
                       const Matrix& output_gradient, const LayerArithmetic& arithmetic,
                       MoeBlockWeights& gradients, Matrix& of_normed) {
  const PermutedRows& order = activations.order;
  const Matrix& routing = activations.gate.weights;
  const Matrix of_output = arithmetic.keep_gradient(
      kExpertOutput, permute_forward(arithmetic.keep_gradient(kCombined, output_gradient), order));
  gradients.expert_down =
      experts_weight_gradient(arithmetic, kExpertDown, order, weighted(of_output, routing, order),
                              activations.expert_hidden);
  const Matrix of_hidden = arithmetic.keep_gradient(
      kExpertHidden,
      experts_input_gradient(arithmetic, kExpertDown, order, of_output, weights.expert_down));
  const Matrix of_gate_up = arithmetic.keep_gradient(
      kExpertGateAndUp,
      weighted(swiglu_backward(activations.expert_gate_up, of_hidden), routing, order));
  gradients.expert_gate_up =
      experts_weight_gradient(arithmetic, kExpertGateUp, order, of_gate_up, activations.dispatched);
  of_normed +=
      permute_backward(arithmetic.keep_gradient(
                           kDispatched, experts_input_gradient(arithmetic, kExpertGateUp, order,
                                                               of_gate_up, weights.expert_gate_up)),
                       order);
  return of_weights(activations.expert_hidden, of_hidden, order);
}

void shared_backward(const MoeBlockWeights& weights, const MoeBlockActivations& activations,
                     const Matrix& output_gradient, const LayerArithmetic& arithmetic,
                     MoeBlockWeights& of_weights, Matrix& of_normed) {
  const Matrix of_output = arithmetic.keep_gradient(kSharedOutput, output_gradient);
  of_weights.shared_down =
      arithmetic.weight_gradient(kSharedDown, of_output, activations.shared_hidden);
  const Matrix of_hidden = arithmetic.keep_gradient(
      kSharedHidden, arithmetic.input_gradient(kSharedDown, of_output, weights.shared_down));
  const Matrix of_gate_up = arithmetic.keep_gradient(
      kSharedGateAndUp, swiglu_backward(activations.shared_gate_up, of_hidden));
  of_weights.shared_gate_up =
      arithmetic.weight_gradient(kSharedGateUp, of_gate_up, activations.normed);
  of_normed += arithmetic.input_gradient(kSharedGateUp, of_gate_up, weights.shared_gate_up);
}

MoeBlockActivations as_cached(MoeBlockActivations kept, const LayerArithmetic& arithmetic) {
  const auto cache = [&](LayerTensor which, Matrix& tensor) {
    tensor = arithmetic.cached(which, tensor);
  };
  cache(kAttentionSum, kept.input);
  cache(kMlpNormed, kept.normed);
  cache(kDispatched, kept.dispatched);
  cache(kExpertGateAndUp, kept.expert_gate_up);
  kept.expert_hidden = arithmetic.keep(kExpertHidden, swiglu_forward(kept.expert_gate_up));
  cache(kSharedGateAndUp, kept.shared_gate_up);
  kept.shared_hidden = arithmetic.keep(kSharedHidden, swiglu_forward(kept.shared_gate_up));
  return kept;
}

}  // namespace

MoeBlockActivations moe_block_forward(const MoeBlockShape& shape, const MoeBlockWeights& weights,
                                      const Matrix& input,
                                      const std::optional<IndexMatrix>& experts,
                                      const LayerArithmetic& arithmetic) {
  check(shape, weights);
  require_extents("input", input, input.rows(), shape.hidden);
  MoeBlockActivations out;
  out.input = input;
  out.normed = arithmetic.keep(kMlpNormed, rms_norm_forward(input, weights.norm, shape.epsilon));
  out.logits = arithmetic.keep(kGateLogits, arithmetic.forward(kGate, out.normed, weights.gate));
  out.gate = gate_forward(out.logits, weights.gate_bias, shape.gate);
  if (experts) {
    out.gate.experts = *experts;
    out.gate.weights = routing_weights(out.gate.scores, *experts, shape.gate);
  }

  out.order = permuted_rows(out.gate.experts, shape.gate.experts, shape.row_alignment);
  out.dispatched = arithmetic.keep(kDispatched, permute_forward(out.normed, out.order));
  out.expert_gate_up =
      arithmetic.keep(kExpertGateAndUp, experts_forward(arithmetic, kExpertGateUp, out.order,
                                                        out.dispatched, weights.expert_gate_up));
  out.expert_hidden = arithmetic.keep(kExpertHidden, swiglu_forward(out.expert_gate_up));
  out.expert_output = arithmetic.keep(
      kExpertOutput,
      experts_forward(arithmetic, kExpertDown, out.order, out.expert_hidden, weights.expert_down));
  out.combined =
      arithmetic.keep(kCombined, unpermute_forward(out.expert_output, out.gate.weights, out.order));

  out.shared_gate_up = arithmetic.keep(
      kSharedGateAndUp, arithmetic.forward(kSharedGateUp, out.normed, weights.shared_gate_up));
  out.shared_hidden = arithmetic.keep(kSharedHidden, swiglu_forward(out.shared_gate_up));
  out.shared_output = arithmetic.keep(
      kSharedOutput, arithmetic.forward(kSharedDown, out.shared_hidden, weights.shared_down));
  return out;
}

MoeBlockGradients moe_block_backward(const MoeBlockShape& shape, const MoeBlockWeights& weights,
                                     const MoeBlockActivations& kept, const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic) {
  check(shape, weights);
  require_extents("output gradient", output_gradient, kept.input.rows(), shape.hidden);
  const MoeBlockActivations activations = as_cached(kept, arithmetic);
  MoeBlockGradients out;
  out.weights.gate_bias = Vector::Zero(shape.gate.experts);
  Matrix of_normed = Matrix::Zero(activations.normed.rows(), activations.normed.cols());
  const Matrix of_routing =
      routed_backward(weights, activations, output_gradient, arithmetic, out.weights, of_normed);
  const Matrix of_logits = arithmetic.keep_gradient(
      kGateLogits, gate_backward(activations.gate, of_routing, shape.gate));
  out.weights.gate = arithmetic.weight_gradient(kGate, of_logits, activations.normed);
  of_normed += arithmetic.input_gradient(kGate, of_logits, weights.gate);
  shared_backward(weights, activations, output_gradient, arithmetic, out.weights, of_normed);

  const RmsNormGradients norm = rms_norm_backward(activations.input, weights.norm, shape.epsilon,
                                                  arithmetic.keep_gradient(kMlpNormed, of_normed));
  out.weights.norm = norm.weight;
  out.input = norm.input;
  return out;
}

}  // namespace pipecast::kernels::reference
