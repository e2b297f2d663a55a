#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Experts of every token from the router's logits. score = sigmoid(logit); score + bias decides,
/// score alone weighs: groups (of neighbouring experts) are ranked by the sum of their two best
/// biased scores, the best `top_groups` groups stay, and of their experts the best `top_k` are
/// chosen, best first; of equals the one of lower index. weight = scale * score / (sum of the
/// chosen scores + 1e-20). Source: DeepSeek-V3 report (arXiv 2412.19437), section 2.1.2, and the
/// model code published with it (inference/model.py).
///
/// A NaN ranks below every number, -infinity included, and an infinite logit has the score 0 or 1;
/// so a NaN is chosen only where the kept groups have fewer than `top_k` numbers, and all weights
/// of that token are then NaN. A group whose two best hold a NaN is ranked as NaN.
///
/// experts is 32, 64, 128, 256 or 512; groups divides 32; top_k is at most 32 and the kept groups
/// hold as many experts. Exactly one of `logits_fp32` and `logits_bf16` is given.
struct GateTopk {
  const float* logits_fp32;
  const Bf16* logits_bf16;  // tokens x experts
  const float* bias;        // experts, or null for none
  int* chosen;              // tokens x top_k, indices of experts
  float* weights;           // tokens x top_k
  int tokens;
  int experts;
  int groups;
  int top_groups;
  int top_k;
  float scale;  // 2.5 in DeepSeek-V3
  int sms;      // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void gate_topk(const GateTopk& problem);

/// Gradient of the logits, zero at experts that were not chosen: with s the chosen scores, S their
/// sum + 1e-20 and g the gradient of the weights, scale / S * (g_i - sum_j g_j s_j / S) s_i (1 -
/// s_i).
struct GateTopkBackward {
  const float* logits_fp32;  // one of the two, as in GateTopk
  const Bf16* logits_bf16;
  const int* chosen;          // tokens x top_k
  const float* weights_grad;  // tokens x top_k
  float* logits_grad_fp32;    // tokens x experts; of the logits' format
  Bf16* logits_grad_bf16;
  int tokens;
  int experts;
  int top_k;
  float scale;
  int sms;
};
void gate_topk_bwd(const GateTopkBackward& problem);

/// Rows per expert of a list of choices; a negative choice is nobody's.
struct ExpertCount {
  const int* chosen;  // choices
  int* counts;        // experts
  std::int64_t choices;
  int experts;  // at most 1,024
  int sms;
};
void expert_count(const ExpertCount& problem);

/// Loss-free balancing: the bias of an expert with less than the mean load grows by `speed`, with
/// more it shrinks, with exactly the mean it stays. Source: DeepSeek-V3 report, section 2.1.2
/// (speed 0.001).
struct GateBiasUpdate {
  const int* load;  // experts: choices since the last update, of all ranks
  float* bias;      // experts, in place
  int experts;      // at most 1,024
  float speed;
};
void gate_bias_update(const GateBiasUpdate& problem);

}  // namespace pipecast::kernels
