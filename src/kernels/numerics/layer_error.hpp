/// A reduced transformer layer with experts, forward and backward, in a recipe's precision and in
/// FP64.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/numerics/fp8_recipe.hpp"
#include "kernels/numerics/samples.hpp"
#include "kernels/reference/moe_layer.hpp"

namespace pipecast::kernels {

/// Proportions of DeepSeek-V3 where so few numbers have room for them.
struct ReducedLayer {
  int tokens{};
  int hidden{};   ///< a multiple of 128
  int experts{};  ///< a multiple of 4: four groups, of which a token chooses two, and in them a
                  ///< quarter of all experts
  Outliers outliers{};  ///< of the layer's input
  std::uint64_t seed{};
};

reference::MoeLayerShape shape_of(const ReducedLayer& layer);

/// Relative root mean square errors.
struct LayerErrors {
  double output = 0;
  double input_gradient = 0;
  double attention = 0;  ///< of the gradients of the attention's linears together
  double gate = 0;
  double experts = 0;
  double shared = 0;  ///< expert
  double norms = 0;
  double rerouted = 0;  ///< share of pairs of token and expert that the gate would choose otherwise
};

/// A layer in FP64, to compare recipes with.
class LayerErrorStudy {
 public:
  /// @throws Error on extents other than those above
  explicit LayerErrorStudy(const ReducedLayer& layer);

  /// Errors of values are at the routing of FP64, so that they are those of the arithmetic alone;
  /// `rerouted` is what the gate would do. May be called from several threads.
  [[nodiscard]] LayerErrors errors_of(const PrecisionRecipe& recipe) const;

 private:
  reference::MoeLayerShape shape_;
  reference::MoeLayerWeights weights_;
  reference::MoeLayerInput input_;
  reference::Matrix output_gradient_;
  reference::MoeLayerActivations activations_;
  reference::MoeLayerGradients gradients_;
};

}  // namespace pipecast::kernels
