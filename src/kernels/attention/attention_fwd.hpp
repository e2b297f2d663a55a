#pragma once

#include "kernels/attention/sequences.hpp"
#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// O = softmax(scale Q K^T) V of every sequence and head in one pass over the keys, with an online
/// softmax in FP32 and base 2. Design: FlashAttention-3 (Shah et al. 2024, arXiv 2407.08608): a
/// producer warp fills rings of keys and values; two warpgroups, 64 queries each, take turns on the
/// tensor cores, and each multiplies the next keys while it exponentiates. All arrays are the
/// device's, row-major and 16-byte aligned.
///
/// What comes out: a query that sees no key gives zeros and a log-sum-exp of minus infinity. A NaN
/// in a key makes NaN of the queries that see it and of no other, and so does an infinity whose
/// logit is +infinity or NaN; one of -infinity is a key of no weight. A NaN or infinity in a value
/// may reach every query of its sequence in whose tile of 128 keys it lies, masked or not.
struct AttentionFwd {
  const Bf16* query;   // queries x heads x 192
  const Bf16* key;     // keys x heads x 192
  const Bf16* value;   // keys x heads x 128
  Bf16* output;        // queries x heads x 128
  float* log_sum_exp;  // heads x queries, natural logarithm, of the scaled logits
  AttentionSequences sequences;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on a scale or extents outside of those above, or a failed launch
void attention_fwd(const AttentionFwd& problem);

}  // namespace pipecast::kernels
