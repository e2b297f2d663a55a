#include "layer_recipe.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/e5m6.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels::testing {
namespace {

using reference::Index;
using reference::LayerLinear;
using reference::LayerTensor;
using reference::LinearPass;
using reference::LinearProduct;
using reference::Matrix;

template <class Round>
Matrix each(const Matrix& tensor, Round round) {
  return tensor.unaryExpr(
      [&](double x) { return static_cast<double>(to_float(round(static_cast<float>(x)))); });
}

/// E4M3 and back, with a scale for `rows` x 128.
Matrix e4m3(const Matrix& tensor, Index rows, bool power_of_two) {
  Matrix out(tensor.rows(), tensor.cols());
  for (Index top = 0; top < tensor.rows(); top += rows) {
    for (Index left = 0; left < tensor.cols(); left += kScaleTile) {
      const Index height = std::min<Index>(rows, tensor.rows() - top);
      const Index width = std::min<Index>(kScaleTile, tensor.cols() - left);
      const auto tile = tensor.block(top, left, height, width);
      const TileScale scale =
          tile_scale(static_cast<float>(tile.cwiseAbs().maxCoeff()), power_of_two);
      out.block(top, left, height, width) = tile.unaryExpr([&](double x) {
        const E4m3 code = to_e4m3(static_cast<float>(x) * scale.inverse);
        return static_cast<double>(to_float(code) * scale.scale);
      });
    }
  }
  return out;
}

Matrix activations(const Matrix& tensor) { return e4m3(tensor, 1, false); }
Matrix sent(const Matrix& tensor) { return e4m3(tensor, 1, true); }
Matrix weights(const Matrix& tensor) { return e4m3(tensor, kScaleTile, false); }

/// Whose inputs come over the dispatch, forward or backward.
bool comes_sent(LinearProduct which) {
  if (which.pass == LinearPass::kForward) {
    return which.linear == LayerLinear::kExpertGateUp || which.linear == LayerLinear::kSharedGateUp;
  }
  return which.linear == LayerLinear::kExpertDown || which.linear == LayerLinear::kSharedDown;
}

}  // namespace

Matrix nearest_bf16(const Matrix& tensor) { return each(tensor, to_bf16); }

Matrix LayerRecipe::product(LinearProduct which, const Matrix& a, const Matrix& b) const {
  const reference::ExactArithmetic exact;
  const bool of_weight = which.pass == LinearPass::kWeightGradient;
  if (which.linear == LayerLinear::kGate) {
    const Matrix out = exact.product(which, a, b);
    return which.pass == LinearPass::kInputGradient ? nearest_bf16(out) : out;
  }
  if (of_weight) {
    // The shared expert's input waits as it was sent; the gate's, which is the same, does not.
    const bool waits = which.linear == LayerLinear::kSharedGateUp;
    const Matrix input = waits ? Matrix(sent(b.transpose()).transpose()) : b;
    // Rows of the routed experts are multiplied by their weights, and that is rounded.
    return exact.product(which, activations(nearest_bf16(a)), activations(input));
  }
  const Matrix left = comes_sent(which) ? sent(a) : activations(a);
  return nearest_bf16(exact.product(which, left, weights(b)));
}

Matrix LayerRecipe::keep(LayerTensor which, const Matrix& tensor) const {
  if (which == LayerTensor::kGateLogits) return tensor;
  if (which == LayerTensor::kDispatched) return sent(tensor);
  return nearest_bf16(tensor);
}

Matrix LayerRecipe::cached(LayerTensor which, const Matrix& kept) const {
  switch (which) {
    case LayerTensor::kAttentionNormed:
    case LayerTensor::kQueryLatentNormed:
    case LayerTensor::kKeyValueLatentNormed:
    case LayerTensor::kExpertGateAndUp:
    case LayerTensor::kSharedGateAndUp:
      return nearest_bf16(activations(kept));
    case LayerTensor::kAttention:
      return each(kept, to_e5m6);
    default:
      return kept;
  }
}

Matrix LayerRecipe::keep_gradient(LayerTensor which, const Matrix& gradient) const {
  if (which == LayerTensor::kCombined || which == LayerTensor::kSharedOutput) return sent(gradient);
  return nearest_bf16(gradient);
}

double distance(const Matrix& actual, const Matrix& expected) {
  const bool same = actual.rows() == expected.rows() && actual.cols() == expected.cols();
  if (!same || !actual.allFinite()) return std::numeric_limits<double>::infinity();
  return (actual - expected).norm() / expected.norm();
}

Matrix SteppedRecipe::product(LinearProduct which, const Matrix& a, const Matrix& b) const {
  return recipe_.product(which, a, b);
}

Matrix SteppedRecipe::keep(LayerTensor which, const Matrix& tensor) const {
  const Matrix expected = recipe_.keep(which, tensor);
  const auto cached = kernels_.cached.find(which);
  if (cached != kernels_.cached.end()) {
    of_tensors_[which] = distance(cached->second, recipe_.cached(which, expected));
  }
  const auto kept = kernels_.kept.find(which);
  if (kept == kernels_.kept.end()) return expected;
  // Where the kernels have it in FP8, that is what they made of it for the next product.
  of_tensors_[which] = distance(kept->second, recipe_.cached(which, expected));
  return kept->second;
}

Matrix SteppedRecipe::cached(LayerTensor which, const Matrix& kept) const {
  const auto cached = kernels_.cached.find(which);
  return cached == kernels_.cached.end() ? recipe_.cached(which, kept) : cached->second;
}

Matrix SteppedRecipe::keep_gradient(LayerTensor which, const Matrix& gradient) const {
  const Matrix expected = recipe_.keep_gradient(which, gradient);
  const auto found = kernels_.gradients.find(which);
  if (found == kernels_.gradients.end()) return expected;
  of_gradients_[which] = distance(found->second, expected);
  return found->second;
}

}  // namespace pipecast::kernels::testing
