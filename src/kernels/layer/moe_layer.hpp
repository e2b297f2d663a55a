/// A transformer layer of DeepSeek-V3 with routed experts, forward and backward through the
/// kernels, in its FP8 recipe: what runs on a GPU, or in emulation against the FP64 reference.
#pragma once

#include "kernels/layer/attention_part.hpp"
#include "kernels/layer/experts_part.hpp"
#include "kernels/layer/layer_tensors.hpp"

namespace pipecast::kernels {

struct LayerKept {
  AttentionKept attention{};
  ExpertsKept experts{};
};

struct LayerBackward {
  Buffer<Bf16> input{};
  LayerGradients weights{};
  // On the way to these, for comparisons:
  Buffer<Bf16> attention_sum{};
  CoreGradients core{};
};

/// Casts the weights once, as a step does. Not modelled: dispatch and combine (all experts are
/// here), recomputation of the up-projections, accumulation over micro-batches.
class KernelMoeLayer {
 public:
  /// `extents` and `weights` outlive the layer.
  KernelMoeLayer(const LayerExtents& extents, const LayerWeights& weights);

  /// @param input  tokens x hidden
  Buffer<Bf16> forward(const Buffer<Bf16>& input, const TokenSequences& sequences,
                       LayerKept& kept) const;
  LayerBackward backward(const LayerKept& kept, const Buffer<Bf16>& output_gradient,
                         const TokenSequences& sequences) const;

 private:
  const LayerExtents& extents_;
  AttentionPart attention_;
  ExpertsPart experts_;
};

}  // namespace pipecast::kernels
