#pragma once

/// The roundings of the layer through the kernels, one by one, for the FP64 layer: what an exact
/// computation of the same recipe gives.
#include <map>

#include "kernels/reference/layer_arithmetic.hpp"

namespace pipecast::kernels::testing {

/// Sums are exact: what is left to the kernels are their FP32 and tensor-core sums, the weights of
/// attention in BF16, and what a difference in the last place tips over in a later rounding.
class LayerRecipe final : public reference::LayerArithmetic {
 public:
  using Matrix = reference::Matrix;

  Matrix product(reference::LinearProduct which, const Matrix& a, const Matrix& b) const override;
  Matrix keep(reference::LayerTensor which, const Matrix& tensor) const override;
  Matrix cached(reference::LayerTensor which, const Matrix& kept) const override;
  Matrix keep_gradient(reference::LayerTensor which, const Matrix& gradient) const override;
};

/// Every element as the nearest BF16.
reference::Matrix nearest_bf16(const reference::Matrix& tensor);

/// Root mean square of the difference over that of what is expected; infinite if anything is NaN.
double distance(const reference::Matrix& actual, const reference::Matrix& expected);

/// What the kernels left behind.
struct KernelTensors {
  using Tensors = std::map<reference::LayerTensor, reference::Matrix>;
  Tensors kept{};    // as forward went on with them; in FP8, where only products read them
  Tensors cached{};  // as backward finds them, of those that are not in `kept`
  Tensors gradients{};
};

/// The same recipe step by step: every tensor that the kernels left behind is compared with what
/// the recipe makes of the kernels' own tensors before it, and takes its place. Otherwise a last
/// place of BF16 tips over a few FP8 codes, these more of the next, and a whole layer can only be
/// compared loosely.
class SteppedRecipe final : public reference::LayerArithmetic {
 public:
  using Matrix = reference::Matrix;

  explicit SteppedRecipe(const KernelTensors& kernels) : kernels_(kernels) {}

  Matrix product(reference::LinearProduct which, const Matrix& a, const Matrix& b) const override;
  Matrix keep(reference::LayerTensor which, const Matrix& tensor) const override;
  Matrix cached(reference::LayerTensor which, const Matrix& kept) const override;
  Matrix keep_gradient(reference::LayerTensor which, const Matrix& gradient) const override;

  /// Of every tensor that was compared: of forward, then the gradients.
  using Distances = std::map<reference::LayerTensor, double>;
  [[nodiscard]] const Distances& of_tensors() const { return of_tensors_; }
  [[nodiscard]] const Distances& of_gradients() const { return of_gradients_; }

 private:
  LayerRecipe recipe_;
  const KernelTensors& kernels_;
  mutable Distances of_tensors_;
  mutable Distances of_gradients_;
};

}  // namespace pipecast::kernels::testing
