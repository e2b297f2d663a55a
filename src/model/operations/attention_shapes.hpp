/// Attention kernels from their shapes: what each kind reads, writes and computes. The one place
/// for layers' launch lists and for shapes that a user names.
#pragma once

#include "model/operations/operation.hpp"

namespace pipecast {

/// Pairs of query and key that the mask leaves, of one head and one sequence: all of the first
/// `keys - queries`, and half of the square of the rest.
double attended_pairs(const AttentionShape& s);

/// The element format of the multiplied operands: that of the cache where there is one.
Precision operand_precision(const AttentionShape& s);

/// What a library with a KV cache moves before its kernel attends to whole sequences: reads and
/// writes the rotary part of the queries, writes that of each head's keys, reads the latents and
/// appends them to the cache; with an FP8 cache it also rewrites queries, keys and values in FP8.
/// 0 without a cache.
Bytes prefill_preparation(const AttentionShape& s);

/// The same before one query per sequence: reads and writes the rotary part of the queries, or
/// rewrites them whole in FP8. The new key is not counted.
Bytes decode_preparation(const AttentionShape& s);

/// Scores, softmax and weighted values. Reads queries, keys and values once, writes BF16 outputs
/// and one FP32 statistic per query and head.
Operation attention_forward_operation(const AttentionShape& s);

/// Gradients of queries, keys and values in BF16; the query gradient is summed in FP32.
Operation attention_backward_operation(const AttentionShape& s);

/// One query per sequence over a cache of latents that serve as keys and, their first v_dim
/// elements, as values (absorbed MLA).
Operation attention_decode_operation(const AttentionShape& s);

}  // namespace pipecast
