/// Extents, weights and gradients of a transformer layer with routed experts, as kernels take them.
#pragma once

#include <vector>

#include "kernels/attention/sequences.hpp"
#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

constexpr int kRotaryWidth = 64;
constexpr int kPlainWidth = kQueryKeyWidth - kRotaryWidth;
constexpr int kKeyValueWidth = kPlainWidth + kValueWidth;  // of a head, out of the up-projection

/// What the FP8 products and the attention kernels leave free. Extents of columns are multiples of
/// 128; heads have 128 plain, 64 rotary and 128 value elements (attention/sequences.hpp).
struct LayerExtents {
  int hidden{};
  int heads{};
  int query_rank{};
  int key_value_rank{};
  int experts{};  // as gate_topk allows
  int groups{};
  int top_groups{};
  int top_k{};
  int expert_width{};
  int shared_width{};
  float routing_scale = 2.5F;
  float epsilon = 1e-6F;  // of every RMSNorm
  double rope_base = 10000;
  int sms{};  // how many SMs every kernel may use; 0 for all
};

/// Matrices are outputs x inputs, row-major; those of the experts lie one behind the other. `T` is
/// Bf16 for weights and float for their gradients.
template <class T>
struct LayerParameters {
  Buffer<T> attention_norm{};
  Buffer<T> query_down{};
  Buffer<T> query_norm{};
  Buffer<T> query_up{};        // heads * (plain, rotary) x query_rank
  Buffer<T> key_value_down{};  // (key_value_rank, rotary) x hidden
  Buffer<T> key_value_norm{};
  Buffer<T> key_value_up{};      // heads * (plain, value) x key_value_rank
  Buffer<T> attention_output{};  // hidden x heads * value
  Buffer<T> mlp_norm{};
  Buffer<T> gate{};            // experts x hidden
  Buffer<T> expert_gate_up{};  // experts x 2 * expert_width x hidden, the gate first
  Buffer<T> expert_down{};     // experts x hidden x expert_width
  Buffer<T> shared_gate_up{};
  Buffer<T> shared_down{};
};
using LayerGradients = LayerParameters<float>;

struct LayerWeights {
  LayerParameters<Bf16> matrices{};
  Buffer<float> gate_bias{};  // experts; selects only, and has no gradient
};

/// Sequences that lie one behind the other in the rows of every tensor.
struct TokenSequences {
  Buffer<int> first_row{};  // sequences + 1
  Buffer<int> positions{};  // of every row in its sequence
  Buffer<float> rope_table{};
  int sequences{};
  int tokens{};
  int longest{};
};
TokenSequences token_sequences(const std::vector<int>& lengths, double rope_base);

}  // namespace pipecast::kernels
