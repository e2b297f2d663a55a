/// DeepSeek-V3's gate (arXiv 2412.19437, section 2.1.2): sigmoid scores, group-limited top-k with a
/// bias that only selects, and the rule that moves the bias towards balanced loads.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

struct GateSettings {
  Index experts{};          // 256
  Index groups = 1;         // 8
  Index chosen_groups = 1;  // 4
  Index chosen_experts{};   // per token, 8
  double scaling = 1;       // of the normalised weights, 2.5
};

/// What a token's experts are. Each token's experts stand in the order of falling biased score.
struct GateResult {
  Matrix scores{};        // tokens x experts, sigmoid of the logits, without bias
  IndexMatrix experts{};  // tokens x chosen_experts
  Matrix weights{};       // tokens x chosen_experts
};

/// Experts of each token: groups are ranked by the sum of their two highest biased scores, then the
/// experts of the chosen groups by their biased score; the lower index wins a tie.
/// @param scores  tokens x experts; none may be NaN
/// @param bias    experts
IndexMatrix select_experts(const Matrix& scores, const Vector& bias, const GateSettings& settings);

/// scaling * score / (sum of the token's chosen scores + 1e-20), without bias.
Matrix routing_weights(const Matrix& scores, const IndexMatrix& experts,
                       const GateSettings& settings);

/// @param logits  tokens x experts
GateResult gate_forward(const Matrix& logits, const Vector& bias, const GateSettings& settings);

/// Gradient of the logits, given that of the weights; the selection has none. Zero for experts that
/// were not chosen.
Matrix gate_backward(const GateResult& result, const Matrix& weight_gradient,
                     const GateSettings& settings);

/// Tokens that chose each expert.
Indices expert_loads(const IndexMatrix& experts, Index expert_count);

/// bias + speed where an expert had less than the mean load, - speed where more (section 2.1.2;
/// speed 0.001 in section 4.2).
Vector updated_bias(const Vector& bias, const Indices& loads, double speed);

}  // namespace pipecast::kernels::reference
