#include "kernels/numerics/layer_error.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "kernels/numerics/errors.hpp"

namespace pipecast::kernels {
namespace {

using reference::ExactArithmetic;
using reference::Index;
using reference::IndexMatrix;
using reference::Matrix;
using reference::MlaBlockWeights;
using reference::MoeBlockWeights;
using reference::MoeLayerShape;
using reference::Vector;

Matrix tokens_of(const ReducedLayer& layer, const Outliers& outliers, std::string_view purpose) {
  const SampleMatrix samples = sample_matrix(
      layer.tokens, layer.hidden, {.distribution = Distribution::kNormal, .outliers = outliers},
      layer.seed, purpose);
  return Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
             samples.values.data(), layer.tokens, layer.hidden)
      .cast<double>();
}

template <class Tensor>
void add_errors(ErrorSums& sums, const Tensor& actual, const Tensor& expected) {
  for (Index i = 0; i < expected.size(); ++i) sums.add(actual.data()[i], expected.data()[i]);
}

void add_errors(ErrorSums& sums, const std::vector<Matrix>& actual,
                const std::vector<Matrix>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) add_errors(sums, actual[i], expected[i]);
}

/// Over all of some tensors of the weights together.
template <class Weights, class... Members>
double error_of(const Weights& actual, const Weights& expected, Members... members) {
  ErrorSums sums;
  (add_errors(sums, actual.*members, expected.*members), ...);
  return sums.measures().relative_rms;
}

double error_of(const Matrix& actual, const Matrix& expected) {
  ErrorSums sums;
  add_errors(sums, actual, expected);
  return sums.measures().relative_rms;
}

/// Chosen experts that are not among those expected, over all.
double rerouted(const IndexMatrix& actual, const IndexMatrix& expected) {
  int changed = 0;
  for (Index token = 0; token < expected.rows(); ++token) {
    for (Index choice = 0; choice < expected.cols(); ++choice) {
      const auto row = expected.row(token);
      if (std::find(row.begin(), row.end(), actual(token, choice)) == row.end()) ++changed;
    }
  }
  return static_cast<double>(changed) / static_cast<double>(expected.size());
}

}  // namespace

MoeLayerShape shape_of(const ReducedLayer& layer) {
  constexpr Index kPlainWidth = 64;
  constexpr Index kRopeWidth = 32;
  const Index hidden = layer.hidden;
  MoeLayerShape out;
  out.attention = {.hidden = hidden,
                   .heads = hidden / kPlainWidth,
                   .query_latent = hidden / 2,
                   .key_value_latent = hidden / 2,
                   .plain_width = kPlainWidth,
                   .rope_width = kRopeWidth,
                   .value_width = kPlainWidth};
  out.moe = {.hidden = hidden,
             .expert_width = hidden / 2,
             .shared_width = hidden / 2,
             .gate = {.experts = layer.experts,
                      .groups = 4,
                      .chosen_groups = 2,
                      .chosen_experts = std::max(layer.experts / 4, 2),
                      .scaling = 2.5}};
  return out;
}

LayerErrorStudy::LayerErrorStudy(const ReducedLayer& layer) {
  require(layer.tokens > 0, "{} tokens: at least one is expected", layer.tokens);
  require(layer.hidden > 0 && layer.hidden % 128 == 0,
          "hidden size {}: a positive multiple of 128 is expected", layer.hidden);
  require(layer.experts >= 8 && layer.experts % 4 == 0,
          "{} experts: a multiple of 4 from 8 on is expected", layer.experts);
  shape_ = shape_of(layer);
  weights_ = random_weights(shape_, layer.seed);
  input_ = {.tokens = tokens_of(layer, layer.outliers, "input of a layer"),
            .cumulative_lengths = {0, layer.tokens},
            .experts = std::nullopt};
  output_gradient_ = tokens_of(layer, {}, "gradient of a layer's output");
  activations_ = moe_layer_forward(shape_, weights_, input_);
  gradients_ = moe_layer_backward(shape_, weights_, activations_, output_gradient_);
}

LayerErrors LayerErrorStudy::errors_of(const PrecisionRecipe& recipe) const {
  const RecipeArithmetic arithmetic(recipe);
  reference::MoeLayerInput routed = input_;
  routed.experts = activations_.moe.gate.experts;
  const auto activations = moe_layer_forward(shape_, weights_, routed, arithmetic);
  const auto gradients =
      moe_layer_backward(shape_, weights_, activations, output_gradient_, arithmetic);
  const IndexMatrix chosen = reference::select_experts(activations.moe.gate.scores,
                                                       weights_.moe.gate_bias, shape_.moe.gate);
  const MlaBlockWeights& mla = gradients.weights.attention;
  const MlaBlockWeights& exact_mla = gradients_.weights.attention;
  const MoeBlockWeights& moe = gradients.weights.moe;
  const MoeBlockWeights& exact_moe = gradients_.weights.moe;
  ErrorSums norms;
  add_errors(norms, mla.norm, exact_mla.norm);
  add_errors(norms, mla.query_norm, exact_mla.query_norm);
  add_errors(norms, mla.key_value_norm, exact_mla.key_value_norm);
  add_errors(norms, moe.norm, exact_moe.norm);
  using Mla = MlaBlockWeights;
  using Moe = MoeBlockWeights;
  return {.output = error_of(activations.output, activations_.output),
          .input_gradient = error_of(gradients.input, gradients_.input),
          .attention = error_of(mla, exact_mla, &Mla::query_down, &Mla::query_up,
                                &Mla::key_value_down, &Mla::key_value_up, &Mla::output),
          .gate = error_of(moe.gate, exact_moe.gate),
          .experts = error_of(moe, exact_moe, &Moe::expert_gate_up, &Moe::expert_down),
          .shared = error_of(moe, exact_moe, &Moe::shared_gate_up, &Moe::shared_down),
          .norms = norms.measures().relative_rms,
          .rerouted = rerouted(chosen, activations_.moe.gate.experts)};
}

}  // namespace pipecast::kernels
