/// Where a training recipe rounds: the products of a layer's linears and the tensors that it stores
/// or sends. The layer itself is computed in FP64 and asks this for both.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

enum class LayerLinear {
  kQueryDown,
  kQueryUp,
  kKeyValueDown,
  kKeyValueUp,
  kAttentionOutput,
  kGate,
  kExpertGateUp,
  kExpertDown,
  kSharedGateUp,
  kSharedDown,
};

enum class LinearPass { kForward, kInputGradient, kWeightGradient };

struct LinearProduct {
  LayerLinear linear{};
  LinearPass pass{};
};

/// Tensors between the operations of a layer; rows are tokens, or routed rows of the experts.
enum class LayerTensor {
  kInput,
  kAttentionNormed,  // after the first RMSNorm
  kQueryLatent,      // before its RMSNorm
  kQueryLatentNormed,
  kQueryUnturned,         // of all heads, before RoPE
  kQuery,                 // of all heads, turned
  kKeyValueLatent,        // before its RMSNorm, with the shared rotary key behind it
  kKeyValueLatentNormed,  // without the rotary key
  kKeyValueHeads,         // of all heads, as the up-projection gives them
  kKey,                   // of all heads, turned
  kValue,
  kAttention,           // output of the core, of all heads
  kAttentionProjected,  // what the residual is added to
  kAttentionSum,        // with the residual
  kMlpNormed,           // after the second RMSNorm
  kGateLogits,
  kDispatched,  // routed rows as the experts receive them; gradient: as they leave
  kExpertGateAndUp,
  kExpertHidden,  // after SwiGLU
  kExpertOutput,  // before the weighted sum; gradients here and of the hidden rows are without the
                  // routing weight
  kCombined,      // the weighted sum per token; gradient: as dispatched to the experts
  kSharedGateAndUp,
  kSharedHidden,
  kSharedOutput,
  kOutput,
};

class LayerArithmetic {
 public:
  virtual ~LayerArithmetic() = default;

  /// C[m,n] = A[m,k] B[n,k]^T: forward A = x, B = w; input gradient A = dy, B = w^T; weight
  /// gradient A = dy^T, B = x^T. An expert's product covers that expert's rows alone.
  virtual Matrix product(LinearProduct which, const Matrix& a, const Matrix& b) const = 0;

  /// The tensor as later operations find it.
  virtual Matrix keep(LayerTensor which, const Matrix& tensor) const = 0;

  /// A kept tensor as backward finds it: some recipes cache it in fewer bits than forward goes on
  /// with; by itself the tensor is as it was. What SwiGLU gave is not cached: backward computes it
  /// again from what SwiGLU took (DeepSeek-V3, section 3.3.3).
  virtual Matrix cached(LayerTensor which, const Matrix& kept) const;

  /// The gradient of the tensor as earlier operations find it.
  virtual Matrix keep_gradient(LayerTensor which, const Matrix& gradient) const = 0;

  // y = x w^T and its gradients, by `product`.
  Matrix forward(LayerLinear linear, const Matrix& input, const Matrix& weight) const;
  Matrix input_gradient(LayerLinear linear, const Matrix& output_gradient,
                        const Matrix& weight) const;
  Matrix weight_gradient(LayerLinear linear, const Matrix& output_gradient,
                         const Matrix& input) const;
};

/// FP64 throughout: no rounding at all.
class ExactArithmetic final : public LayerArithmetic {
 public:
  Matrix product(LinearProduct which, const Matrix& a, const Matrix& b) const override;
  Matrix keep(LayerTensor which, const Matrix& tensor) const override;
  Matrix keep_gradient(LayerTensor which, const Matrix& gradient) const override;
};

}  // namespace pipecast::kernels::reference
