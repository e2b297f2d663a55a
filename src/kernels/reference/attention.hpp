/// The core of multi-head latent attention (DeepSeek-V3, arXiv 2412.19437, section 2.1.1): training
/// form with keys and values of every head, and the absorbed form of decoding.
#pragma once

#include <vector>

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// Several sequences behind each other in the rows of one tensor; none sees another.
struct AttentionCase {
  Index heads{};
  Index query_key_width{};       // per head, 192 = 128 plain + 64 rotary in DeepSeek-V3
  Index value_width{};           // per head, 128
  double scale{};                // of the logits, 1 / sqrt(query_key_width)
  bool causal = true;            // a token sees itself and those before it
  Indices cumulative_lengths{};  // 0, then the end row of every sequence
};

/// Also the gradients of these. Rows are tokens; a row holds its heads one behind the other.
struct AttentionTensors {
  Matrix query{};  // tokens x heads * query_key_width
  Matrix key{};    // the same
  Matrix value{};  // tokens x heads * value_width
};

struct AttentionResult {
  Matrix output{};       // rows x heads * value_width
  Matrix log_sum_exp{};  // rows x heads, natural logarithm, of the scaled logits
};

/// O = softmax(scale Q K^T) V per head and sequence.
AttentionResult attention_forward(const AttentionCase& shape, const AttentionTensors& inputs);

/// With P the probabilities and dP = dO V^T: dV = P^T dO, dS = P (dP - rowsum(P dP)),
/// dQ = scale dS K, dK = scale dS^T Q.
AttentionTensors attention_backward(const AttentionCase& shape, const AttentionTensors& inputs,
                                    const Matrix& output_gradient);

/// The same with an output that was kept in fewer bits: rowsum(P dP) is taken as rowsum(O dO), as
/// kernels do.
AttentionTensors attention_backward(const AttentionCase& shape, const AttentionTensors& inputs,
                                    const Matrix& kept_output, const Matrix& output_gradient);

/// Decoding with the key up-projection absorbed into the query and the value up-projection into
/// the output: all heads share the rows of one cache, whose first latent_width elements are the
/// values as well (section 2.1.1; DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
struct AbsorbedDecodeCase {
  Index heads{};
  Index latent_width{};               // 512
  Index rope_width{};                 // 64
  double scale{};                     // 1 / sqrt(192), of the widths before absorption
  Index queries_per_sequence = 1;     // query i of n sees all but the last n - 1 - i positions
  std::vector<Indices> cache_rows{};  // per sequence the rows of its positions, in order
};

/// Positions of sequences that lie one behind the other in the cache.
std::vector<Indices> contiguous_cache_rows(const Indices& lengths);

/// Position p of a sequence lies in page table[p / page_rows], row p mod page_rows of it.
std::vector<Indices> paged_cache_rows(const Indices& lengths, Index page_rows,
                                      const std::vector<Indices>& page_tables);

/// A query that sees no position gives zeros and a log-sum-exp of minus infinity.
/// @param query  sequences * queries_per_sequence x heads * (latent_width + rope_width)
/// @param cache  rows x (latent_width + rope_width)
/// @returns output of width heads * latent_width
AttentionResult absorbed_decode(const AbsorbedDecodeCase& shape, const Matrix& query,
                                const Matrix& cache);

}  // namespace pipecast::kernels::reference
