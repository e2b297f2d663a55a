#include "kernels/numerics/fp8_recipe.hpp"

namespace pipecast::kernels {
namespace {

using reference::Index;
using reference::LayerLinear;
using reference::LayerTensor;
using reference::LinearPass;
using reference::LinearProduct;
using reference::Matrix;

constexpr ScaleTile kActivationTile{1, 128};
constexpr ScaleTile kWeightTile{128, 128};

SampleMatrix samples_of(const Matrix& matrix) {
  SampleMatrix out{static_cast<int>(matrix.rows()), static_cast<int>(matrix.cols()), {}};
  out.values.reserve(static_cast<std::size_t>(matrix.size()));
  for (Index i = 0; i < matrix.size(); ++i)
    out.values.push_back(static_cast<float>(matrix.data()[i]));
  return out;
}

Matrix matrix_of(const QuantisedMatrix& codes) {
  const std::vector<double> values = dequantised(codes);
  return Eigen::Map<const Matrix>(values.data(), codes.codes.rows, codes.codes.columns);
}

Matrix rounded_to(const Matrix& matrix, const SmallFloat& format, const ScaleTile& tile,
                  ScaleKind scales) {
  return matrix_of(
      quantised(samples_of(matrix), {.format = format, .tile = tile, .scales = scales}));
}

Matrix to_bf16_tensor(const Matrix& matrix) {
  return rounded_to(matrix, kFormatBf16, {}, ScaleKind::kNone);
}

/// Of all linears but the gate.
PrecisionRecipe all_products(ProductPrecision precision) {
  return {.forward = precision, .input_gradient = precision, .weight_gradient = precision};
}

}  // namespace

PrecisionRecipe deepseek_v3_recipe() {
  PrecisionRecipe out = all_products(ProductPrecision::kFp8Sums);
  out.bf16_tensors = true;
  out.fp8_cache = true;
  out.e5m6_attention = true;
  out.fp8_swiglu = true;
  out.fp8_dispatch = true;
  return out;
}

const std::vector<NamedRecipe>& named_recipes() {
  using enum ProductPrecision;
  static const std::vector<NamedRecipe> kRecipes = [] {
    PrecisionRecipe bf16 = all_products(kBf16);
    bf16.bf16_tensors = true;
    bf16.gate = kBf16;
    PrecisionRecipe tensor_scales = all_products(kFp8);
    tensor_scales.tensor_scales = true;
    PrecisionRecipe e5m2 = all_products(kFp8);
    e5m2.gradient_format = Fp8Kind::kE5m2;
    PrecisionRecipe unpromoted = tensor_scales;
    unpromoted.forward = unpromoted.input_gradient = unpromoted.weight_gradient = kFp8Sums;
    unpromoted.sums.promotion = 0;
    PrecisionRecipe gate_fp8 = deepseek_v3_recipe();
    gate_fp8.gate = kFp8Sums;
    return std::vector<NamedRecipe>{{"bf16-tensors", {.bf16_tensors = true}},
                                    {"bf16-products", all_products(kBf16)},
                                    {"fp8-forward", {.forward = kFp8}},
                                    {"fp8-input-gradient", {.input_gradient = kFp8}},
                                    {"fp8-weight-gradient", {.weight_gradient = kFp8}},
                                    {"fp8-products", all_products(kFp8)},
                                    {"fp8-sums", all_products(kFp8Sums)},
                                    {"fp8-tensor-scales", tensor_scales},
                                    {"fp8-tensor-scales-unpromoted", unpromoted},
                                    {"fp8-e5m2-gradients", e5m2},
                                    {"fp8-cache", {.fp8_cache = true}},
                                    {"e5m6-attention", {.e5m6_attention = true}},
                                    {"fp8-swiglu", {.fp8_swiglu = true}},
                                    {"fp8-dispatch", {.fp8_dispatch = true}},
                                    {"gate-bf16", {.gate = kBf16}},
                                    {"gate-fp8", {.gate = kFp8}},
                                    {"bf16", bf16},
                                    {"deepseek-v3", deepseek_v3_recipe()},
                                    {"deepseek-v3-gate-fp8", gate_fp8}};
  }();
  return kRecipes;
}

ProductPrecision RecipeArithmetic::precision_of(LinearProduct which) const {
  if (which.linear == LayerLinear::kGate) return recipe_.gate;
  if (which.pass == LinearPass::kForward) return recipe_.forward;
  if (which.pass == LinearPass::kInputGradient) return recipe_.input_gradient;
  return recipe_.weight_gradient;
}

/// The transposed input of a linear as the weight gradient finds it after it has waited.
Matrix RecipeArithmetic::waited(LayerLinear linear, const Matrix& input_transposed) const {
  const bool attention = linear == LayerLinear::kAttentionOutput && recipe_.e5m6_attention;
  if (linear == LayerLinear::kGate || !(attention || recipe_.fp8_cache)) return input_transposed;
  const Matrix kept =
      rounded_to(input_transposed.transpose(), attention ? kFormatE5m6 : kFormatE4m3,
                 kActivationTile, attention ? ScaleKind::kPowerOfTwo : ScaleKind::kFp32);
  return kept.transpose();
}

Matrix RecipeArithmetic::product(LinearProduct which, const Matrix& a, const Matrix& b) const {
  const bool waits = which.pass == LinearPass::kWeightGradient;
  const Matrix right = waits ? waited(which.linear, b) : b;
  switch (precision_of(which)) {
    case ProductPrecision::kExact:
      return a * right.transpose();
    case ProductPrecision::kBf16:
      return to_bf16_tensor(a) * to_bf16_tensor(right).transpose();
    case ProductPrecision::kFp8:
      return fp8_product(which, a, right, true);
    case ProductPrecision::kFp8Sums:
      return fp8_product(which, a, right, false);
  }
  return {};
}

Matrix RecipeArithmetic::fp8_product(LinearProduct which, const Matrix& a, const Matrix& b,
                                     bool exact_sums) const {
  // Both operands of a weight gradient are activations, scaled along the tokens.
  const bool weights = which.pass != LinearPass::kWeightGradient;
  const bool gradient = which.pass != LinearPass::kForward;
  const ScaleTile tensor{};
  const Fp8Operand left =
      fp8_operand(samples_of(a), gradient ? recipe_.gradient_format : Fp8Kind::kE4m3,
                  recipe_.tensor_scales ? tensor : kActivationTile, ScaleKind::kFp32);
  const ScaleTile right_tile = weights ? kWeightTile : kActivationTile;
  const Fp8Operand right = fp8_operand(
      samples_of(b), Fp8Kind::kE4m3, recipe_.tensor_scales ? tensor : right_tile, ScaleKind::kFp32);
  if (exact_sums) return matrix_of(left.rounded) * matrix_of(right.rounded).transpose();
  Matrix out(a.rows(), b.rows());
  for (Index row = 0; row < a.rows(); ++row) {
    const std::vector<float> sums =
        fp8_product_row(left, static_cast<int>(row), right, recipe_.sums);
    for (Index column = 0; column < b.rows(); ++column) {
      out(row, column) = static_cast<double>(sums[static_cast<std::size_t>(column)]);
    }
  }
  return out;
}

Matrix RecipeArithmetic::keep(LayerTensor which, const Matrix& tensor) const {
  const bool logits = which == LayerTensor::kGateLogits;
  const Matrix kept = recipe_.bf16_tensors && !logits ? to_bf16_tensor(tensor) : tensor;
  const bool swiglu =
      which == LayerTensor::kExpertGateAndUp || which == LayerTensor::kSharedGateAndUp;
  if (recipe_.fp8_swiglu && swiglu) {
    return rounded_to(kept, kFormatE4m3, kActivationTile, ScaleKind::kFp32);
  }
  if (recipe_.fp8_dispatch && which == LayerTensor::kDispatched) {
    return rounded_to(kept, kFormatE4m3, kActivationTile, ScaleKind::kPowerOfTwo);
  }
  return kept;
}

Matrix RecipeArithmetic::keep_gradient(LayerTensor which, const Matrix& gradient) const {
  const bool logits = which == LayerTensor::kGateLogits;
  const Matrix kept = recipe_.bf16_tensors && !logits ? to_bf16_tensor(gradient) : gradient;
  if (recipe_.fp8_dispatch && which == LayerTensor::kCombined) {
    return rounded_to(kept, kFormatE4m3, kActivationTile, ScaleKind::kPowerOfTwo);
  }
  return kept;
}

}  // namespace pipecast::kernels
