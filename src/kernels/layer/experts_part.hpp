/// The gate, routed experts and the shared expert through the kernels: from the sum after attention
/// to what is added to it, second RMSNorm included. All experts are on this GPU.
#pragma once

#include "kernels/layer/fp8_linear.hpp"
#include "kernels/layer/fp8_operands.hpp"
#include "kernels/layer/layer_tensors.hpp"
#include "kernels/layer/norm_part.hpp"
#include "kernels/routing/permute.hpp"

namespace pipecast::kernels {

/// Which token each routed row holds; see PermuteMap.
struct RoutedRows {
  Buffer<int> row_of_choice{};
  Buffer<int> choice_of_row{};
  Buffer<int> first_row{};  // experts + 1
  int tokens{};
  int top_k{};
  int capacity{};
  int rows{};
};

/// What forward keeps, FP8 where DeepSeek-V3 does (section 3.3.3): inputs of linears and of SwiGLU.
/// The normed tokens and SwiGLU's outputs are computed again.
struct ExpertsKept {
  Buffer<Bf16> input{};
  Buffer<float> logits{};
  Buffer<int> chosen{};     // tokens x top_k
  Buffer<float> weights{};  // tokens x top_k
  RowsFp8 sent{};           // normed tokens as they are dispatched
  RoutedRows places{};
  RowsFp8 routed{};
  RowsFp8 routed_gate_up{};
  RowsFp8 shared_gate_up{};
};

class ExpertsPart {
 public:
  ExpertsPart(const LayerExtents& extents, const LayerWeights& weights);

  /// @param input  tokens x hidden; moves into `kept`
  /// @returns      tokens x hidden
  Buffer<Bf16> forward(Buffer<Bf16> input, int tokens, ExpertsKept& kept) const;

  /// Gradient of the input, without the residual's; fills those of the weights.
  Buffer<Bf16> backward(const ExpertsKept& kept, const Buffer<Bf16>& output_gradient, int tokens,
                        LayerGradients& gradients) const;

 private:
  void route(const Buffer<Bf16>& normed, int tokens, ExpertsKept& kept) const;
  [[nodiscard]] RoutedRows place(const Buffer<int>& chosen, int tokens) const;
  [[nodiscard]] RowsFp8 to_rows(const RowsFp8& sent, const RoutedRows& places) const;
  [[nodiscard]] Buffer<Bf16> to_tokens(const Buffer<Bf16>& rows, const float* weights,
                                       const RoutedRows& places) const;
  [[nodiscard]] RowsFp8 activated(const Buffer<Bf16>& gate_up, int rows, int width) const;
  [[nodiscard]] Buffer<Bf16> routed_backward(const ExpertsKept& kept, const RowsFp8& sent_gradient,
                                             Buffer<float>& of_weights,
                                             LayerGradients& gradients) const;
  [[nodiscard]] Buffer<Bf16> shared_backward(const ExpertsKept& kept, const RowsFp8& sent_gradient,
                                             LayerGradients& gradients) const;
  [[nodiscard]] Buffer<Bf16> gate_backward(const ExpertsKept& kept, const Buffer<float>& of_weights,
                                           int tokens, LayerGradients& gradients) const;

  const LayerExtents& extents_;
  const LayerWeights& weights_;
  NormPart norm_;
  Fp8Weights expert_gate_up_;
  Fp8Weights expert_down_;
  Fp8Weights shared_gate_up_;
  Fp8Weights shared_down_;
};

}  // namespace pipecast::kernels
