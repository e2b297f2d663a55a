#include "kernels/layer/moe_layer.hpp"

#include <algorithm>
#include <utility>

namespace pipecast::kernels {

KernelMoeLayer::KernelMoeLayer(const LayerExtents& extents, const LayerWeights& weights)
    : extents_(extents), attention_(extents, weights), experts_(extents, weights) {}

Buffer<Bf16> KernelMoeLayer::forward(const Buffer<Bf16>& input, const TokenSequences& sequences,
                                     LayerKept& kept) const {
  const int tokens = sequences.tokens;
  auto own = matrix_buffer<Bf16>(tokens, extents_.hidden);
  std::copy(input.begin(), input.end(), own.begin());
  const Buffer<Bf16> projected = attention_.forward(std::move(own), sequences, kept.attention);
  const Buffer<Bf16> added = experts_.forward(
      sum_of(input, projected, tokens, extents_.hidden, extents_.sms), tokens, kept.experts);
  return sum_of(kept.experts.input, added, tokens, extents_.hidden, extents_.sms);
}

LayerBackward KernelMoeLayer::backward(const LayerKept& kept, const Buffer<Bf16>& output_gradient,
                                       const TokenSequences& sequences) const {
  const int tokens = sequences.tokens;
  LayerBackward out;
  const Buffer<Bf16> by_experts =
      experts_.backward(kept.experts, output_gradient, tokens, out.weights);
  out.attention_sum = sum_of(output_gradient, by_experts, tokens, extents_.hidden, extents_.sms);
  const Buffer<Bf16> by_attention =
      attention_.backward(kept.attention, out.attention_sum, sequences, out.core, out.weights);
  out.input = sum_of(out.attention_sum, by_attention, tokens, extents_.hidden, extents_.sms);
  return out;
}

}  // namespace pipecast::kernels
