/// Multi-head latent attention with its projections, through the kernels: from a layer's input to
/// what the residual is added to, first RMSNorm included.
#pragma once

#include <cstdint>

#include "kernels/attention/sequences.hpp"
#include "kernels/layer/fp8_linear.hpp"
#include "kernels/layer/fp8_operands.hpp"
#include "kernels/layer/layer_tensors.hpp"
#include "kernels/layer/norm_part.hpp"

namespace pipecast::kernels {

/// What forward keeps. Inputs of linears are kept in FP8, the core's output in E5M6 (DeepSeek-V3,
/// section 3.3.3).
struct AttentionKept {
  Buffer<Bf16> input{};
  RowsFp8 normed{};
  Buffer<Bf16> query_latent{};
  RowsFp8 query_latent_normed{};
  Buffer<Bf16> key_value_latent{};  // without the rotary key
  RowsFp8 key_value_latent_normed{};
  Buffer<Bf16> query{};
  Buffer<Bf16> key{};
  Buffer<Bf16> value{};
  Buffer<std::uint8_t> output{};  // E5M6
  Buffer<float> log_sum_exp{};
};

/// Gradients of what the core took; that of the query is turned back already, to before RoPE.
struct CoreGradients {
  Buffer<Bf16> query{};
  Buffer<Bf16> key{};
  Buffer<Bf16> value{};
};

class AttentionPart {
 public:
  AttentionPart(const LayerExtents& extents, const LayerWeights& weights);

  /// @param input  tokens x hidden; moves into `kept`
  /// @returns      tokens x hidden
  Buffer<Bf16> forward(Buffer<Bf16> input, const TokenSequences& sequences,
                       AttentionKept& kept) const;

  /// Gradient of the input, without the residual's; fills those of the core and of the weights.
  Buffer<Bf16> backward(const AttentionKept& kept, const Buffer<Bf16>& output_gradient,
                        const TokenSequences& sequences, CoreGradients& of_core,
                        LayerGradients& gradients) const;

 private:
  [[nodiscard]] AttentionSequences core(const TokenSequences& sequences) const;
  void turn(Buffer<Bf16>& tensor, int heads, int head_width, const TokenSequences& sequences,
            bool backward) const;
  void split_latent(const Buffer<Bf16>& down, Buffer<Bf16>& latent, Buffer<Bf16>& rotary_key,
                    int tokens) const;
  void join_latent(const Buffer<Bf16>& latent, const Buffer<Bf16>& rotary_key, Buffer<Bf16>& down,
                   int tokens) const;
  void keys_and_values(const Buffer<Bf16>& up, const Buffer<Bf16>& rotary_key, AttentionKept& kept,
                       int tokens) const;
  [[nodiscard]] Buffer<Bf16> of_heads(const CoreGradients& of_core, int tokens) const;
  [[nodiscard]] CoreGradients core_backward(const AttentionKept& kept, const Buffer<Bf16>& output,
                                            const Buffer<Bf16>& output_gradient,
                                            const TokenSequences& sequences) const;
  [[nodiscard]] Buffer<Bf16> query_backward(const AttentionKept& kept, const Buffer<Bf16>& of_query,
                                            int tokens, LayerGradients& gradients) const;
  [[nodiscard]] Buffer<Bf16> key_value_backward(const AttentionKept& kept,
                                                const CoreGradients& of_core,
                                                const TokenSequences& sequences,
                                                LayerGradients& gradients) const;

  const LayerExtents& extents_;
  NormPart norm_;
  NormPart query_norm_;
  NormPart key_value_norm_;
  Fp8Weights query_down_;
  Fp8Weights query_up_;
  Fp8Weights key_value_down_;
  Fp8Weights key_value_up_;
  Fp8Weights output_;
};

}  // namespace pipecast::kernels
