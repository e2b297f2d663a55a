#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/sequences.hpp"
#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Gradients of attention_fwd, in three kernels one after the other:
///
///   attention_bwd_preprocess  row sums D of output times gradient; clears the sums of dQ
///   attention_bwd             P = exp(scale S - lse) anew, dV = P^T dO, dP = dO V^T,
///                             dS = P (dP - D), dK = scale dS^T Q, sums of dS K
///   attention_bwd_convert_dq  dQ = scale times those sums, in BF16
///
/// Design: FlashAttention-3's backward (Shah et al. 2024, arXiv 2407.08608): a thread block owns
/// 128 keys of a head and turns through the queries, 64 at a time; the gradients of keys and values
/// stay in registers, those of queries are added up in global memory in FP32. Blocks add to a tile
/// of queries from the last keys to the first, each after the one before it: the result is the same
/// bit for bit every time. Under a causal mask nobody waits for it, as the blocks that start at
/// later queries come first.
///
/// All arrays are the device's, row-major and 16-byte aligned. Queries that see no key have
/// gradients of zero.
struct AttentionBwd {
  const Bf16* query;            // queries x heads x 192
  const Bf16* key;              // keys x heads x 192
  const Bf16* value;            // keys x heads x 128
  const Bf16* output;           // queries x heads x 128, of attention_fwd
  const float* log_sum_exp;     // heads x queries, of attention_fwd
  const Bf16* output_gradient;  // queries x heads x 128
  Bf16* query_gradient;         // as the tensors themselves
  Bf16* key_gradient;
  Bf16* value_gradient;
  // Between the kernels; of attention_bwd_workspace's sizes.
  float* row_statistics;
  float* query_sums;
  std::uint32_t* query_turns;
  AttentionSequences sequences;
  int sms;  // how many SMs the kernels may use; 0 for all
};

/// Elements of the arrays between the kernels: tiles of 64 queries, that begin anew with every
/// sequence, per head.
struct AttentionBwdWorkspace {
  std::size_t row_statistics;
  std::size_t query_sums;
  std::size_t query_turns;
};
AttentionBwdWorkspace attention_bwd_workspace(const AttentionSequences& sequences);

/// @throws DeviceError on a scale or extents outside of those above, or a failed launch
void attention_bwd_preprocess(const AttentionBwd& problem);
void attention_bwd(const AttentionBwd& problem);
void attention_bwd_convert_dq(const AttentionBwd& problem);

}  // namespace pipecast::kernels
