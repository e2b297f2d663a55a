/// Routed experts and the shared expert (DeepSeek-V3, section 2.1.2, equations 12 to 16), from the
/// sum after attention to what is added to it, second RMSNorm included.
#pragma once

#include <optional>
#include <vector>

#include "kernels/reference/gate.hpp"
#include "kernels/reference/layer_arithmetic.hpp"
#include "kernels/reference/matrix.hpp"
#include "kernels/reference/permute.hpp"

namespace pipecast::kernels::reference {

struct MoeBlockShape {
  Index hidden{};        // 7168
  Index expert_width{};  // 2048
  Index shared_width{};  // the same, times the number of shared experts
  GateSettings gate{};
  Index row_alignment = 1;  // of every expert's rows
  double epsilon = 1e-6;    // of RMSNorm
};

/// Also the gradients of these, but for the bias, which has none. Matrices are outputs x inputs.
struct MoeBlockWeights {
  Vector norm{};                         // hidden
  Matrix gate{};                         // experts x hidden
  Vector gate_bias{};                    // experts; selects only
  std::vector<Matrix> expert_gate_up{};  // each 2 * expert_width x hidden, gate first
  std::vector<Matrix> expert_down{};     // each hidden x expert_width
  Matrix shared_gate_up{};               // 2 * shared_width x hidden
  Matrix shared_down{};                  // hidden x shared_width
};

/// What forward made and backward needs, as kept. Rows of `dispatched` to `expert_output` are
/// routed rows.
struct MoeBlockActivations {
  Matrix input{};
  Matrix normed{};
  Matrix logits{};
  GateResult gate{};
  PermutedRows order{};
  Matrix dispatched{};
  Matrix expert_gate_up{};
  Matrix expert_hidden{};
  Matrix expert_output{};
  Matrix combined{};
  Matrix shared_gate_up{};
  Matrix shared_hidden{};
  Matrix shared_output{};
};

struct MoeBlockGradients {
  Matrix input{};  // without the residual's share
  MoeBlockWeights weights{};
};

/// @param input    tokens x hidden
/// @param experts  of each token, if they are given and not the gate's choice; weights follow the
///                 gate's scores all the same
MoeBlockActivations moe_block_forward(const MoeBlockShape& shape, const MoeBlockWeights& weights,
                                      const Matrix& input,
                                      const std::optional<IndexMatrix>& experts,
                                      const LayerArithmetic& arithmetic);

/// @param output_gradient  of the sum of routed and shared experts
MoeBlockGradients moe_block_backward(const MoeBlockShape& shape, const MoeBlockWeights& weights,
                                     const MoeBlockActivations& kept, const Matrix& output_gradient,
                                     const LayerArithmetic& arithmetic);

}  // namespace pipecast::kernels::reference
