#pragma once

namespace pipecast::kernels {

/// Multi-head latent attention in the form of training and prefill (DeepSeek-V3, arXiv 2412.19437,
/// section 2.1.1): every head has its own keys and values. Widths of a head:
constexpr int kQueryKeyWidth = 192;  // 128 and 64 that carry the rotary position
constexpr int kValueWidth = 128;

/// Sequences that lie one behind the other in the rows of each tensor. The queries of a sequence
/// are the last of its keys: under a causal mask query i of n sees all but the last n - 1 - i keys,
/// none if there are so few. Either may be empty.
struct AttentionSequences {
  const int* first_query;  // device, sequences + 1: where each begins, then the end
  const int* first_key;    // device, the same for keys; may be `first_query`
  int sequences;
  int heads;
  int queries;          // of all sequences
  int keys;             // of all sequences
  int longest_queries;  // no sequence has more
  int longest_keys;
  float scale;  // of the logits, above 0; 1 / sqrt(192)
  bool causal;
};

}  // namespace pipecast::kernels
