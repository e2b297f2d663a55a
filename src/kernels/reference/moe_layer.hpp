/// A whole transformer layer of DeepSeek-V3 with routed experts, forward and backward: x + MLA,
/// then that + MoE. Any size; any arithmetic, so that FP64 and a training recipe run the same
/// layer.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/reference/layer_arithmetic.hpp"
#include "kernels/reference/matrix.hpp"
#include "kernels/reference/mla_block.hpp"
#include "kernels/reference/moe_block.hpp"

namespace pipecast::kernels::reference {

struct MoeLayerShape {
  MlaBlockShape attention{};
  MoeBlockShape moe{};
};

struct MoeLayerWeights {
  MlaBlockWeights attention{};
  MoeBlockWeights moe{};
};

struct MoeLayerInput {
  Matrix tokens{};                       // tokens x hidden
  Indices cumulative_lengths{};          // 0, then the end row of every sequence
  std::optional<IndexMatrix> experts{};  // given routing; the gate chooses if empty
};

struct MoeLayerActivations {
  MlaBlockActivations attention{};
  MoeBlockActivations moe{};  // its input is the sum after attention
  Matrix output{};            // tokens x hidden
};

struct MoeLayerGradients {
  Matrix input{};
  MoeLayerWeights weights{};
};

MoeLayerActivations moe_layer_forward(const MoeLayerShape& shape, const MoeLayerWeights& weights,
                                      const MoeLayerInput& input,
                                      const LayerArithmetic& arithmetic = ExactArithmetic{});

/// @param output_gradient  tokens x hidden
MoeLayerGradients moe_layer_backward(const MoeLayerShape& shape, const MoeLayerWeights& weights,
                                     const MoeLayerActivations& activations,
                                     const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic = ExactArithmetic{});

/// Weights to begin with: normal with the standard deviation 1 / sqrt(inputs), so that every
/// tensor of the layer stays of the order of one; norms and bias near one and zero, not on them.
MoeLayerWeights random_weights(const MoeLayerShape& shape, std::uint64_t seed);

}  // namespace pipecast::kernels::reference
