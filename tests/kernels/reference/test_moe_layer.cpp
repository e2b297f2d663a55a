#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/attention.hpp"
#include "kernels/reference/gemm.hpp"
#include "kernels/reference/moe_layer.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "kernels/reference/rope.hpp"
#include "kernels/reference/swiglu.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

namespace {

// Every extent differs, so that no two can be taken for each other.
MoeLayerShape tiny_shape() {
  return {.attention = {.hidden = 10,
                        .heads = 2,
                        .query_latent = 7,
                        .key_value_latent = 6,
                        .plain_width = 3,
                        .rope_width = 4,
                        .value_width = 5},
          .moe = {.hidden = 10,
                  .expert_width = 4,
                  .shared_width = 3,
                  .gate = {.experts = 6,
                           .groups = 3,
                           .chosen_groups = 2,
                           .chosen_experts = 3,
                           .scaling = 2.5},
                  .row_alignment = 4}};
}

MoeLayerInput tiny_input(const MoeLayerShape& shape) {
  return {.tokens = random_matrix("tokens", 5, shape.attention.hidden),
          .cumulative_lengths = {0, 2, 5},
          .experts = std::nullopt};
}

/// Every tensor of the weights that has a gradient, by name, in one shape.
std::map<std::string, Matrix*> matrices_of(MoeLayerWeights& weights) {
  std::map<std::string, Matrix*> out = {
      {"query_down", &weights.attention.query_down},
      {"query_up", &weights.attention.query_up},
      {"key_value_down", &weights.attention.key_value_down},
      {"key_value_up", &weights.attention.key_value_up},
      {"output", &weights.attention.output},
      {"gate", &weights.moe.gate},
      {"shared_gate_up", &weights.moe.shared_gate_up},
      {"shared_down", &weights.moe.shared_down},
  };
  for (std::size_t expert = 0; expert < weights.moe.expert_down.size(); ++expert) {
    out["expert_gate_up " + std::to_string(expert)] = &weights.moe.expert_gate_up[expert];
    out["expert_down " + std::to_string(expert)] = &weights.moe.expert_down[expert];
  }
  return out;
}

std::map<std::string, Vector*> vectors_of(MoeLayerWeights& weights) {
  return {{"attention norm", &weights.attention.norm},
          {"query_norm", &weights.attention.query_norm},
          {"key_value_norm", &weights.attention.key_value_norm},
          {"moe norm", &weights.moe.norm}};
}

/// Scales every product of one linear and pass, and counts how often it was asked for each.
class ScaledArithmetic final : public LayerArithmetic {
 public:
  ScaledArithmetic(LayerLinear linear, double scale) : linear_(linear), scale_(scale) {}

  Matrix product(LinearProduct which, const Matrix& a, const Matrix& b) const override {
    REQUIRE(a.cols() == b.cols());
    ++products_[{which.linear, which.pass}];
    const bool scaled = which.linear == linear_ && which.pass == LinearPass::kForward;
    return (scaled ? scale_ : 1) * exact_.product(which, a, b);
  }
  Matrix keep(LayerTensor which, const Matrix& tensor) const override {
    ++kept_[which];
    return tensor;
  }
  Matrix cached(LayerTensor which, const Matrix& kept) const override {
    ++cached_[which];
    return kept;
  }
  Matrix keep_gradient(LayerTensor which, const Matrix& gradient) const override {
    ++gradients_[which];
    return gradient;
  }

  const std::map<std::pair<LayerLinear, LinearPass>, int>& products() const { return products_; }
  const std::map<LayerTensor, int>& kept() const { return kept_; }
  const std::map<LayerTensor, int>& cached_counts() const { return cached_; }
  const std::map<LayerTensor, int>& gradients() const { return gradients_; }

 private:
  LayerLinear linear_;
  double scale_;
  ExactArithmetic exact_;
  mutable std::map<std::pair<LayerLinear, LinearPass>, int> products_;
  mutable std::map<LayerTensor, int> kept_;
  mutable std::map<LayerTensor, int> cached_;
  mutable std::map<LayerTensor, int> gradients_;
};

/// Stores everything in steps of 1/64, the input in steps of 1/8, and refuses products of tensors
/// that were not stored.
class SteppedArithmetic final : public LayerArithmetic {
 public:
  static bool stored(const Matrix& tensor) { return stepped(tensor) == tensor; }

  Matrix product(LinearProduct which, const Matrix& a, const Matrix& b) const override {
    CAPTURE(static_cast<int>(which.linear), static_cast<int>(which.pass));
    const bool of_weight = which.pass == LinearPass::kWeightGradient;
    // These rows are multiplied by their routing weight first.
    if (!(of_weight && which.linear == LayerLinear::kExpertDown)) REQUIRE(stored(a));
    if (of_weight) REQUIRE(stored(b));
    return ExactArithmetic{}.product(which, a, b);
  }
  Matrix keep(LayerTensor which, const Matrix& tensor) const override {
    return stepped(tensor, which == LayerTensor::kInput ? 8 : 64);
  }
  Matrix cached(LayerTensor, const Matrix& kept) const override {
    REQUIRE(stored(kept));
    return kept;
  }
  Matrix keep_gradient(LayerTensor, const Matrix& gradient) const override {
    return stepped(gradient);
  }

 private:
  static Matrix stepped(const Matrix& tensor, double steps = 64) {
    return tensor.unaryExpr([=](double x) { return std::round(steps * x) / steps; });
  }
};

/// Caches one tensor as zeros.
class ForgetfulArithmetic final : public LayerArithmetic {
 public:
  explicit ForgetfulArithmetic(LayerTensor forgotten) : forgotten_(forgotten) {}

  Matrix product(LinearProduct which, const Matrix& a, const Matrix& b) const override {
    return ExactArithmetic{}.product(which, a, b);
  }
  Matrix keep(LayerTensor, const Matrix& tensor) const override { return tensor; }
  Matrix cached(LayerTensor which, const Matrix& kept) const override {
    return which == forgotten_ ? Matrix::Zero(kept.rows(), kept.cols()) : kept;
  }
  Matrix keep_gradient(LayerTensor, const Matrix& gradient) const override { return gradient; }

 private:
  LayerTensor forgotten_;
};

}  // namespace

TEST_CASE("gradients of a whole MoE layer are its slopes, with the routing held", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  MoeLayerWeights weights = random_weights(shape, 1);
  MoeLayerInput input = tiny_input(shape);
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input);
  input.experts = activations.moe.gate.experts;
  const Matrix of_output = random_matrix("gradient", 5, 10);
  MoeLayerGradients gradients = moe_layer_backward(shape, weights, activations, of_output);
  const auto loss = [&] {
    return weighted_sum(moe_layer_forward(shape, weights, input).output, of_output);
  };
  REQUIRE(relative_error(gradients.input, slopes(input.tokens, loss)) < kSlopeTolerance);
  const auto of_matrices = matrices_of(gradients.weights);
  for (const auto& [name, weight] : matrices_of(weights)) {
    CAPTURE(name);
    REQUIRE(relative_error(*of_matrices.at(name), slopes(*weight, loss)) < kSlopeTolerance);
  }
  const auto of_vectors = vectors_of(gradients.weights);
  for (const auto& [name, weight] : vectors_of(weights)) {
    CAPTURE(name);
    REQUIRE(relative_error(*of_vectors.at(name), slopes(*weight, loss)) < kSlopeTolerance);
  }
  REQUIRE(gradients.weights.moe.gate_bias.isZero(0));
}

TEST_CASE("without attention output a layer is its residual and each token's own experts",
          "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  MoeLayerWeights weights = random_weights(shape, 2);
  weights.attention.output.setZero();
  const MoeLayerInput input = tiny_input(shape);
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input);
  const Matrix normed = rms_norm_forward(input.tokens, weights.moe.norm, shape.moe.epsilon);
  const auto mlp = [](const Matrix& row, const Matrix& gate_up, const Matrix& down) {
    return product(swiglu_forward(product(row, gate_up)), down);
  };
  const GateResult gate =
      gate_forward(product(normed, weights.moe.gate), weights.moe.gate_bias, shape.moe.gate);
  for (Index token = 0; token < 5; ++token) {
    const Matrix row = normed.row(token);
    Matrix expected =
        input.tokens.row(token) + mlp(row, weights.moe.shared_gate_up, weights.moe.shared_down);
    for (Index slot = 0; slot < 3; ++slot) {
      const auto expert = static_cast<std::size_t>(gate.experts(token, slot));
      expected += gate.weights(token, slot) *
                  mlp(row, weights.moe.expert_gate_up[expert], weights.moe.expert_down[expert]);
    }
    REQUIRE(relative_error(activations.output.row(token), expected) < kSame);
  }
}

TEST_CASE("a layer's attention is absorbed decoding over its latent cache, token by token",
          "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MlaBlockShape& mla = shape.attention;
  const MoeLayerWeights weights = random_weights(shape, 9);
  const MoeLayerInput input = tiny_input(shape);
  const MlaBlockActivations attention = moe_layer_forward(shape, weights, input).attention;
  const Index latent = mla.key_value_latent;
  const Index plain = mla.plain_width;
  const Index width = plain + mla.rope_width;
  const Indices positions{0, 1, 0, 1, 2};
  Matrix cache(5, latent + mla.rope_width);
  cache << attention.key_value_latent_normed,
      rope_forward(attention.key_value_latent.rightCols(mla.rope_width), positions,
                   {.head_width = mla.rope_width, .rope_width = mla.rope_width});
  const AbsorbedDecodeCase decode = {.heads = mla.heads,
                                     .latent_width = latent,
                                     .rope_width = mla.rope_width,
                                     .scale = 1 / std::sqrt(3.0 + 4.0),
                                     .cache_rows = {{0}, {0, 1}, {2}, {2, 3}, {2, 3, 4}}};
  Matrix query(5, mla.heads * cache.cols());
  for (Index head = 0; head < mla.heads; ++head) {
    const Matrix key_up =
        weights.attention.key_value_up.middleRows(head * (plain + mla.value_width), plain);
    query.middleCols(head * cache.cols(), cache.cols())
        << attention.query.middleCols(head * width, plain) * key_up,
        attention.query.middleCols(head * width + plain, mla.rope_width);
  }
  const AttentionResult decoded = absorbed_decode(decode, query, cache);
  REQUIRE(relative_error(attention.log_sum_exp, decoded.log_sum_exp) < kSame);
  for (Index head = 0; head < mla.heads; ++head) {
    const Matrix value_up = weights.attention.key_value_up.middleRows(
        head * (plain + mla.value_width) + plain, mla.value_width);
    REQUIRE(relative_error(attention.attention.middleCols(head * mla.value_width, mla.value_width),
                           product(decoded.output.middleCols(head * latent, latent), value_up)) <
            kSame);
  }
}

TEST_CASE("a layer multiplies stored tensors alone, and hands on what it stored", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 10);
  const SteppedArithmetic arithmetic;
  const MoeLayerInput input = tiny_input(shape);
  const MoeLayerActivations out = moe_layer_forward(shape, weights, input, arithmetic);
  REQUIRE_FALSE(SteppedArithmetic::stored(input.tokens));
  REQUIRE(SteppedArithmetic::stored(out.attention.input));
  REQUIRE(out.moe.input == out.attention.input + out.attention.output);
  REQUIRE(out.output == out.moe.input + out.moe.combined + out.moe.shared_output);
  const MoeLayerGradients gradients =
      moe_layer_backward(shape, weights, out, random_matrix("gradient", 5, 10), arithmetic);
  REQUIRE(SteppedArithmetic::stored(gradients.input));
}

TEST_CASE("backward takes what was cached, SwiGLU's output by way of its input", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 11);
  const MoeLayerActivations out = moe_layer_forward(shape, weights, tiny_input(shape));
  const auto backward = [&](LayerTensor forgotten) {
    const ForgetfulArithmetic arithmetic(forgotten);
    return moe_layer_backward(shape, weights, out, Matrix::Ones(5, 10), arithmetic).weights;
  };
  const MoeLayerWeights exact =
      moe_layer_backward(shape, weights, out, Matrix::Ones(5, 10)).weights;
  REQUIRE_FALSE(exact.attention.output.isZero(0));
  REQUIRE(backward(LayerTensor::kAttention).attention.output.isZero(0));
  REQUIRE(backward(LayerTensor::kAttention).moe.gate == exact.moe.gate);
  REQUIRE_FALSE(exact.moe.shared_down.isZero(0));
  REQUIRE(backward(LayerTensor::kSharedGateAndUp).moe.shared_down.isZero(0));
  for (const Matrix& down : backward(LayerTensor::kExpertGateAndUp).moe.expert_down) {
    REQUIRE(down.isZero(0));
  }
  REQUIRE(backward(LayerTensor::kMlpNormed).moe.gate.isZero(0));
}

TEST_CASE("a layer over two sequences is the layer over each alone", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 3);
  const MoeLayerInput both = tiny_input(shape);
  const Matrix output = moe_layer_forward(shape, weights, both).output;
  const MoeLayerInput first = {
      .tokens = both.tokens.topRows(2), .cumulative_lengths = {0, 2}, .experts = std::nullopt};
  const MoeLayerInput second = {
      .tokens = both.tokens.bottomRows(3), .cumulative_lengths = {0, 3}, .experts = std::nullopt};
  REQUIRE(relative_error(moe_layer_forward(shape, weights, first).output, output.topRows(2)) <
          kSame);
  REQUIRE(relative_error(moe_layer_forward(shape, weights, second).output, output.bottomRows(3)) <
          kSame);
}

TEST_CASE("a layer keeps the padding of expert rows zero, whatever its alignment", "[reference]") {
  MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 4);
  const MoeLayerInput input = tiny_input(shape);
  const Matrix aligned = moe_layer_forward(shape, weights, input).output;
  shape.moe.row_alignment = 1;
  REQUIRE(relative_error(moe_layer_forward(shape, weights, input).output, aligned) < kSame);
}

TEST_CASE("all tokens to one expert leave every other expert without gradient", "[reference]") {
  MoeLayerShape shape = tiny_shape();
  shape.moe.gate.chosen_experts = 1;
  const MoeLayerWeights weights = random_weights(shape, 5);
  MoeLayerInput input = tiny_input(shape);
  input.experts = IndexMatrix::Constant(5, 1, 4);
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input);
  REQUIRE(activations.moe.order.counts == Indices{0, 0, 0, 0, 5, 0});
  const MoeLayerGradients gradients =
      moe_layer_backward(shape, weights, activations, Matrix::Ones(5, 10));
  for (std::size_t expert = 0; expert < 6; ++expert) {
    REQUIRE(gradients.weights.moe.expert_down[expert].isZero(0) == (expert != 4));
  }
}

TEST_CASE("a layer without tokens gives none, and zero gradients", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 6);
  const MoeLayerInput input = {
      .tokens = Matrix(0, 10), .cumulative_lengths = {0}, .experts = std::nullopt};
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input);
  REQUIRE(activations.output.rows() == 0);
  const MoeLayerGradients gradients =
      moe_layer_backward(shape, weights, activations, Matrix(0, 10));
  REQUIRE(gradients.weights.attention.query_up.isZero(0));
  REQUIRE(gradients.weights.moe.shared_down.isZero(0));
}

TEST_CASE("a layer asks its arithmetic for every product and every tensor once", "[reference]") {
  const MoeLayerShape shape = tiny_shape();
  const MoeLayerWeights weights = random_weights(shape, 7);
  const ScaledArithmetic arithmetic(LayerLinear::kSharedDown, 2);
  const MoeLayerInput input = tiny_input(shape);
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input, arithmetic);
  const MoeLayerActivations exact = moe_layer_forward(shape, weights, input);
  // Only the shared expert's output differs, by the planted factor.
  REQUIRE(relative_error(activations.output, exact.output + exact.moe.shared_output) < kSame);
  REQUIRE(activations.moe.combined == exact.moe.combined);
  (void)moe_layer_backward(shape, weights, activations, Matrix::Ones(5, 10), arithmetic);

  int experts_with_rows = 0;
  for (const Index count : activations.moe.order.counts) experts_with_rows += count > 0;
  constexpr int kLinears = 10;
  REQUIRE(arithmetic.products().size() == kLinears * 3);
  for (const auto& [which, count] : arithmetic.products()) {
    const bool of_experts =
        which.first == LayerLinear::kExpertGateUp || which.first == LayerLinear::kExpertDown;
    REQUIRE(count == (of_experts ? experts_with_rows : 1));
  }
  constexpr int kTensors = static_cast<int>(LayerTensor::kOutput) + 1;
  REQUIRE(arithmetic.kept().size() == kTensors);
  REQUIRE(arithmetic.gradients().size() == kTensors);
  for (const auto& [tensor, count] : arithmetic.kept()) {
    const bool again = tensor == LayerTensor::kExpertHidden || tensor == LayerTensor::kSharedHidden;
    REQUIRE(count == (again ? 2 : 1));  // SwiGLU's output is computed again for backward
  }
  for (const auto& [tensor, count] : arithmetic.cached_counts()) REQUIRE(count == 1);
  for (const auto& [tensor, count] : arithmetic.gradients()) REQUIRE(count == 1);
}

TEST_CASE("a layer refuses weights and tensors that do not fit", "[reference]") {
  MoeLayerShape shape = tiny_shape();
  MoeLayerWeights weights = random_weights(shape, 8);
  const MoeLayerInput input = tiny_input(shape);
  const MoeLayerActivations activations = moe_layer_forward(shape, weights, input);
  REQUIRE_THROWS_WITH(moe_layer_backward(shape, weights, activations, Matrix(5, 9)),
                      Contains("output gradient must be 5 x 10"));
  weights.moe.expert_down.pop_back();
  REQUIRE_THROWS_WITH(moe_layer_forward(shape, weights, input),
                      Contains("weights of 6 and 5 experts"));
  weights.attention.query_up.resize(1, 1);
  REQUIRE_THROWS_WITH(moe_layer_forward(shape, weights, input),
                      Contains("query up must be 14 x 7"));
  shape.moe.hidden = 9;
  REQUIRE_THROWS_WITH(moe_layer_forward(shape, weights, input),
                      Contains("hidden size 10 in attention, 9 in MoE"));
}
