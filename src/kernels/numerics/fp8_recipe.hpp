/// DeepSeek-V3's mixed precision (arXiv 2412.19437, section 3.3) as an arithmetic of the FP64
/// layer: each of its roundings by itself, or all of them.
#pragma once

#include <string_view>
#include <vector>

#include "kernels/numerics/fp8_product.hpp"
#include "kernels/reference/layer_arithmetic.hpp"

namespace pipecast::kernels {

enum class ProductPrecision {
  kExact,
  kBf16,     ///< operands rounded to BF16, summed exactly
  kFp8,      ///< operands rounded to FP8 with scales by tile, summed exactly
  kFp8Sums,  ///< the same, summed as the tensor cores and the promotion do
};

/// What is rounded; by default nothing is.
struct PrecisionRecipe {
  bool bf16_tensors = false;   ///< all between operations but the gate's logits (section 3.3.1)
  ProductPrecision forward{};  ///< of linears but the gate's (figure 6: Fprop)
  ProductPrecision input_gradient{};   ///< (Dgrad)
  ProductPrecision weight_gradient{};  ///< (Wgrad)
  ProductPrecision gate{};             ///< all three of the gate, which the report keeps precise
  Fp8Kind gradient_format{};           ///< of output gradients in products; the report has E4M3
  bool tensor_scales = false;          ///< one a tensor, instead of 1 x 128 and 128 x 128
  Fp8Sums sums{.promotion = 128, .fraction_bits = kHopperFractionBits};
  bool fp8_cache = false;       ///< inputs of linears wait for Wgrad in E4M3 by 1 x 128 (3.3.3)
  bool e5m6_attention = false;  ///< the attention output's in E5M6, scales powers of two (3.3.3)
  bool fp8_swiglu = false;      ///< inputs of SwiGLU are kept in E4M3 (3.3.3)
  bool fp8_dispatch = false;    ///< tokens, and gradients of combine, are sent in E4M3 (3.3.3)
};

/// Everything that the report rounds.
PrecisionRecipe deepseek_v3_recipe();

struct NamedRecipe {
  std::string_view name;
  PrecisionRecipe recipe{};
};

/// The roundings one at a time, some that the report avoids, and all of them together.
const std::vector<NamedRecipe>& named_recipes();

/// Not modelled: what attention rounds inside of it; SwiGLU's inputs as kept for backward are also
/// what the forward pass uses, a little worse than in truth; casts of master weights to BF16.
class RecipeArithmetic final : public reference::LayerArithmetic {
 public:
  using Matrix = reference::Matrix;

  explicit RecipeArithmetic(const PrecisionRecipe& recipe) : recipe_(recipe) {}

  Matrix product(reference::LinearProduct which, const Matrix& a, const Matrix& b) const override;
  Matrix keep(reference::LayerTensor which, const Matrix& tensor) const override;
  Matrix keep_gradient(reference::LayerTensor which, const Matrix& gradient) const override;

 private:
  [[nodiscard]] ProductPrecision precision_of(reference::LinearProduct which) const;
  [[nodiscard]] Matrix fp8_product(reference::LinearProduct which, const Matrix& a, const Matrix& b,
                                   bool exact_sums) const;
  [[nodiscard]] Matrix waited(reference::LayerLinear linear, const Matrix& input_transposed) const;

  PrecisionRecipe recipe_;
};

}  // namespace pipecast::kernels
