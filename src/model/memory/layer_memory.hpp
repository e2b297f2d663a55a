/// What one layer of one micro-batch holds while its chunks run and between them.
#pragma once

#include <array>
#include <vector>

#include "model/memory/memory_tensor.hpp"
#include "model/operations/layer_operations.hpp"

namespace pipecast {

/// Tensors of a layer that come and go together.
enum class Bundle : std::uint8_t {
  kAttentionKept,  ///< from attn(F) to the end of attn(B)
  kMlpKept,        ///< from mlp(F) to the end of mlp(B)
  // What recomputation of the whole layer brings back, from the same phases to the same ends.
  kAttentionReplayed,
  kMlpReplayed,
  kAttentionOperands,   ///< of weight gradients, from the end of attn(B) to the end of attn(W)
  kMlpOperands,         ///< from the end of mlp(B) to the end of mlp(W)
  kDispatched,          ///< received tokens, from dispatch(F) to the end of mlp(F)
  kCombining,           ///< outgoing results, from mlp(F) to the end of combine(F)
  kDispatchedGradient,  ///< received gradients, from combine(B) to the end of mlp(B)
  kCombiningGradient,   ///< outgoing gradients, from mlp(B) to the end of dispatch(B)
  // Of the largest kernel of a phase, while it runs.
  kAttentionForwardWork,
  kMlpForwardWork,
  kMlpBackwardWork,
  kAttentionBackwardWork,
  kMlpWeightWork,
  kAttentionWeightWork,
  // With ZeRO-3 and ZeRO-2: the layer's weights as the products read them, and its whole gradients.
  kGatheredWeights,
  kWholeGradients,
};
inline constexpr std::size_t kBundles = 18;

/// One bundle.
struct BundleMemory {
  std::vector<MemoryTensor> tensors;
  Bytes bytes;     ///< sum of the tensors
  Bytes rounding;  ///< what the allocator adds to them
};

class LayerMemory {
 public:
  [[nodiscard]] const BundleMemory& at(Bundle bundle) const {
    return bundles_[static_cast<std::size_t>(bundle)];
  }
  void add(Bundle bundle, const MemoryTensor& tensor);

 private:
  std::array<BundleMemory, kBundles> bundles_;
};

/// Category of a bundle's tensors.
MemoryCategory category_of(Bundle bundle);

/// @param load  what the GPU got in this layer; its routed rows make the experts' tensors grow
/// Not modelled: working sets of several kernels (a phase works with the operands and results of
/// its largest kernel); the gradient that passes from layer to layer.
LayerMemory layer_memory(const ModelSpec& model, const PlanSpec& plan, LayerKind kind,
                         const LayerLoad& load);

}  // namespace pipecast
