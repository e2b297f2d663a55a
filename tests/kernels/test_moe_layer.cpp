#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/layer/moe_layer.hpp"
#include "kernels/quantise/cast_e5m6.hpp"
#include "kernels/reference/moe_layer.hpp"
#include "layer_recipe.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Index;
using reference::IndexMatrix;
using reference::Matrix;
using reference::Vector;

// Few experts can be chosen: two of the eight of every group, so that most have no token, and 72
// tokens fill few blocks of 128 rows.
constexpr int kOpenOfGroup = 2;
constexpr double kClosed = -10;

LayerExtents small_layer() {
  return {.hidden = 256,
          .heads = 2,
          .query_rank = 128,
          .key_value_rank = 128,
          .experts = 32,
          .groups = 4,
          .top_groups = 2,
          .top_k = 2,
          .expert_width = 128,
          .shared_width = 128};
}

reference::MoeLayerShape shape_of(const LayerExtents& e) {
  return {.attention = {.hidden = e.hidden,
                        .heads = e.heads,
                        .query_latent = e.query_rank,
                        .key_value_latent = e.key_value_rank,
                        .plain_width = kPlainWidth,
                        .rope_width = kRotaryWidth,
                        .value_width = kValueWidth,
                        .epsilon = static_cast<double>(e.epsilon),
                        .rope_base = e.rope_base},
          .moe = {.hidden = e.hidden,
                  .expert_width = e.expert_width,
                  .shared_width = e.shared_width,
                  .gate = {.experts = e.experts,
                           .groups = e.groups,
                           .chosen_groups = e.top_groups,
                           .chosen_experts = e.top_k,
                           .scaling = static_cast<double>(e.routing_scale)},
                  .row_alignment = kScaleTile,
                  .epsilon = static_cast<double>(e.epsilon)}};
}

template <class Tensor>
void round_in_place(Tensor& tensor) {
  tensor = nearest_bf16(tensor);
}

/// Weights whose every number is a BF16.
reference::MoeLayerWeights bf16_weights(const LayerExtents& extents) {
  reference::MoeLayerWeights w = reference::random_weights(shape_of(extents), 1);
  for (Matrix* matrix :
       {&w.attention.query_down, &w.attention.query_up, &w.attention.key_value_down,
        &w.attention.key_value_up, &w.attention.output, &w.moe.gate, &w.moe.shared_gate_up,
        &w.moe.shared_down}) {
    round_in_place(*matrix);
  }
  for (Vector* vector :
       {&w.attention.norm, &w.attention.query_norm, &w.attention.key_value_norm, &w.moe.norm}) {
    round_in_place(*vector);
  }
  for (Matrix& matrix : w.moe.expert_gate_up) round_in_place(matrix);
  for (Matrix& matrix : w.moe.expert_down) round_in_place(matrix);
  for (Index expert = 0; expert < extents.experts; ++expert) {
    const bool open = expert % (extents.experts / extents.groups) < kOpenOfGroup;
    w.moe.gate_bias(expert) = open ? 0 : kClosed;
  }
  return w;
}

Buffer<Bf16> to_device(const Matrix& matrix) {
  Buffer<Bf16> out(static_cast<std::size_t>(matrix.size()));
  for (Index i = 0; i < matrix.size(); ++i) {
    out[static_cast<std::size_t>(i)] = to_bf16(static_cast<float>(matrix.data()[i]));
  }
  return out;
}

Matrix stacked(const std::vector<Matrix>& matrices) {
  const Index rows = matrices.front().rows();
  Matrix out(rows * static_cast<Index>(matrices.size()), matrices.front().cols());
  Index at = 0;
  for (const Matrix& matrix : matrices) {
    out.middleRows(at, rows) = matrix;
    at += rows;
  }
  return out;
}

LayerWeights to_device(const reference::MoeLayerWeights& w) {
  LayerWeights out{{.attention_norm = to_device(Matrix(w.attention.norm)),
                    .query_down = to_device(w.attention.query_down),
                    .query_norm = to_device(Matrix(w.attention.query_norm)),
                    .query_up = to_device(w.attention.query_up),
                    .key_value_down = to_device(w.attention.key_value_down),
                    .key_value_norm = to_device(Matrix(w.attention.key_value_norm)),
                    .key_value_up = to_device(w.attention.key_value_up),
                    .attention_output = to_device(w.attention.output),
                    .mlp_norm = to_device(Matrix(w.moe.norm)),
                    .gate = to_device(w.moe.gate),
                    .expert_gate_up = to_device(stacked(w.moe.expert_gate_up)),
                    .expert_down = to_device(stacked(w.moe.expert_down)),
                    .shared_gate_up = to_device(w.moe.shared_gate_up),
                    .shared_down = to_device(w.moe.shared_down)},
                   Buffer<float>(static_cast<std::size_t>(w.moe.gate_bias.size()))};
  for (std::size_t i = 0; i < out.gate_bias.size(); ++i) {
    out.gate_bias[i] = static_cast<float>(w.moe.gate_bias(static_cast<Index>(i)));
  }
  return out;
}

double number_of(float value) { return static_cast<double>(value); }
double number_of(Bf16 value) { return static_cast<double>(to_float(value)); }

template <class T>
Matrix from_device(const Buffer<T>& buffer, Index columns) {
  Matrix out(static_cast<Index>(buffer.size()) / columns, columns);
  for (std::size_t i = 0; i < buffer.size(); ++i) out.data()[i] = number_of(buffer[i]);
  return out;
}

/// What a layer gives, by name.
using LayerTensors = std::map<std::string, Matrix>;

LayerTensors tensors_of(const Matrix& output, const reference::MoeLayerGradients& gradients) {
  const reference::MlaBlockWeights& a = gradients.weights.attention;
  const reference::MoeBlockWeights& m = gradients.weights.moe;
  return {{"output", output},
          {"input gradient", gradients.input},
          {"attention norm", a.norm},
          {"query down", a.query_down},
          {"query norm", a.query_norm},
          {"query up", a.query_up},
          {"key-value down", a.key_value_down},
          {"key-value norm", a.key_value_norm},
          {"key-value up", a.key_value_up},
          {"attention output", a.output},
          {"mlp norm", m.norm},
          {"gate", m.gate},
          {"expert gate and up", stacked(m.expert_gate_up)},
          {"expert down", stacked(m.expert_down)},
          {"shared gate and up", m.shared_gate_up},
          {"shared down", m.shared_down}};
}

LayerTensors tensors_of(const LayerExtents& e, const Buffer<Bf16>& output,
                        const LayerBackward& backward) {
  const LayerGradients& g = backward.weights;
  return {{"output", from_device(output, e.hidden)},
          {"input gradient", from_device(backward.input, e.hidden)},
          {"attention norm", from_device(g.attention_norm, 1)},
          {"query down", from_device(g.query_down, e.hidden)},
          {"query norm", from_device(g.query_norm, 1)},
          {"query up", from_device(g.query_up, e.query_rank)},
          {"key-value down", from_device(g.key_value_down, e.hidden)},
          {"key-value norm", from_device(g.key_value_norm, 1)},
          {"key-value up", from_device(g.key_value_up, e.key_value_rank)},
          {"attention output", from_device(g.attention_output, e.heads * kValueWidth)},
          {"mlp norm", from_device(g.mlp_norm, 1)},
          {"gate", from_device(g.gate, e.hidden)},
          {"expert gate and up", from_device(g.expert_gate_up, e.hidden)},
          {"expert down", from_device(g.expert_down, e.expert_width)},
          {"shared gate and up", from_device(g.shared_gate_up, e.hidden)},
          {"shared down", from_device(g.shared_down, e.shared_width)}};
}

Matrix from_device(const RowsFp8& rows) {
  const Buffer<Bf16> values = uncast(rows, 0);
  synchronise();
  return from_device(values, rows.columns);
}

KernelTensors tensors_of(const LayerExtents& e, const LayerKept& layer, const Buffer<Bf16>& output,
                         const LayerBackward& backward) {
  using reference::LayerTensor;
  const AttentionKept& a = layer.attention;
  const ExpertsKept& x = layer.experts;
  const int attention_width = e.heads * kValueWidth;
  const int query_width = e.heads * kQueryKeyWidth;
  const auto tokens = static_cast<int>(output.size()) / e.hidden;
  auto attention = matrix_buffer<Bf16>(tokens, attention_width);
  uncast_e5m6({a.output.data(), attention.data(), tokens, attention_width, 0});
  synchronise();
  return {
      .kept = {{LayerTensor::kAttentionNormed, from_device(a.normed)},
               {LayerTensor::kQueryLatent, from_device(a.query_latent, e.query_rank)},
               {LayerTensor::kQueryLatentNormed, from_device(a.query_latent_normed)},
               {LayerTensor::kKeyValueLatentNormed, from_device(a.key_value_latent_normed)},
               {LayerTensor::kQuery, from_device(a.query, query_width)},
               {LayerTensor::kKey, from_device(a.key, query_width)},
               {LayerTensor::kValue, from_device(a.value, attention_width)},
               {LayerTensor::kAttentionSum, from_device(x.input, e.hidden)},
               {LayerTensor::kGateLogits, from_device(x.logits, e.experts)},
               {LayerTensor::kDispatched, from_device(x.routed)},
               {LayerTensor::kOutput, from_device(output, e.hidden)}},
      .cached = {{LayerTensor::kAttention, from_device(attention, attention_width)},
                 {LayerTensor::kExpertGateAndUp, from_device(x.routed_gate_up)},
                 {LayerTensor::kSharedGateAndUp, from_device(x.shared_gate_up)}},
      .gradients = {{LayerTensor::kAttentionSum, from_device(backward.attention_sum, e.hidden)},
                    {LayerTensor::kQueryUnturned, from_device(backward.core.query, query_width)},
                    {LayerTensor::kKey, from_device(backward.core.key, query_width)},
                    {LayerTensor::kValue, from_device(backward.core.value, attention_width)}}};
}

/// The FP64 layer in an arithmetic, and the experts that it chose.
struct ReferenceRun {
  LayerTensors tensors;
  IndexMatrix experts;
};

ReferenceRun run_reference(const LayerExtents& extents, const reference::MoeLayerWeights& weights,
                           const reference::MoeLayerInput& input, const Matrix& output_gradient,
                           const reference::LayerArithmetic& arithmetic) {
  const reference::MoeLayerShape shape = shape_of(extents);
  const auto forward = reference::moe_layer_forward(shape, weights, input, arithmetic);
  const auto backward =
      reference::moe_layer_backward(shape, weights, forward, output_gradient, arithmetic);
  return {tensors_of(forward.output, backward), forward.moe.gate.experts};
}

Matrix random_tokens(std::uint64_t seed, Index tokens, Index columns) {
  const std::vector<float> values = normal_values(static_cast<std::size_t>(tokens * columns), seed);
  return nearest_bf16(
      Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
          values.data(), tokens, columns)
          .cast<double>());
}

// From one stored tensor to the next, from the kernels' own: sums in another order differ in the
// last place of BF16 for a tenth of the elements or so; that tips over one FP8 code in sixteen of
// them, by a step of up to an eighth: sqrt(0.1 / 16) / 8 = 1 %.
constexpr double kOneStep = 0.01;

// How much further from FP64 than the recipe the kernels may be: what tips over is rounded no worse
// than it was, but differently, and the norms' gradients are few numbers.
constexpr double kNoWorse = 1.2;

/// What the recipe may cost, as a relative root mean square. A code of E4M3 is off by an evenly
/// spread part of 1 / 8 of its binade: (1 / 8) / sqrt(12) over significands that spread evenly in
/// their logarithm, whose mean inverse square is (1 - 1 / 4) / (2 ln 2). Errors add up in squares:
/// a product has two such operands, and on the longest way there are five forward (query down and
/// up, attention output, both of an expert), five back and that of the weight, and four tensors
/// that wait in FP8.
double layer_error() {
  constexpr double kProducts = 5 + 5 + 1;
  constexpr double kWaiting = 4;
  const double square_of_code = 1.0 / 64 / 12 * (1 - 0.25) / (2 * std::log(2.0));
  return std::sqrt((2 * kProducts + kWaiting) * square_of_code);
}

}  // namespace

// A layer takes seconds in emulation, so two orders have to do: each kernel alone has been through
// all of them.
TEST_CASE("a whole MoE layer through the kernels is the FP64 layer within its recipe", "[layer]") {
  const LayerExtents extents = small_layer();
  const std::vector<int> lengths{45, 27};
  constexpr Index kTokens = 45 + 27;
  const reference::MoeLayerWeights weights = bf16_weights(extents);
  reference::MoeLayerInput input = {.tokens = random_tokens(2, kTokens, extents.hidden),
                                    .cumulative_lengths = {0, 45, kTokens},
                                    .experts = std::nullopt};
  const Matrix output_gradient = random_tokens(3, kTokens, extents.hidden);
  const ReferenceRun recipe =
      run_reference(extents, weights, input, output_gradient, LayerRecipe{});
  input.experts = recipe.experts;
  const ReferenceRun exact =
      run_reference(extents, weights, input, output_gradient, reference::ExactArithmetic{});
  const LayerWeights device_weights = to_device(weights);
  const Buffer<Bf16> device_input = to_device(input.tokens);
  const Buffer<Bf16> device_gradient = to_device(output_gradient);
  const TokenSequences sequences = token_sequences(lengths, extents.rope_base);
  for (const std::uint64_t order : {0U, 1U}) {
    choose_order(order);
    const KernelMoeLayer layer(extents, device_weights);
    LayerKept kept;
    const Buffer<Bf16> output = layer.forward(device_input, sequences, kept);
    const LayerBackward backward = layer.backward(kept, device_gradient, sequences);
    synchronise();
    const KernelTensors tensors = tensors_of(extents, kept, output, backward);
    const SteppedRecipe stepped(tensors);
    const ReferenceRun steps = run_reference(extents, weights, input, output_gradient, stepped);
    for (const auto& distances : {stepped.of_tensors(), stepped.of_gradients()}) {
      for (const auto& [tensor, far] : distances) {
        CAPTURE(static_cast<int>(tensor));
        REQUIRE(far < kOneStep);
      }
    }
    // Routing is part of the recipe: its errors move a few tokens to an expert as good.
    for (Index i = 0; i < recipe.experts.size(); ++i) {
      REQUIRE(kept.experts.chosen[static_cast<std::size_t>(i)] == recipe.experts.data()[i]);
    }
    for (const auto& [name, tensor] : tensors_of(extents, output, backward)) {
      CAPTURE(name);
      REQUIRE(distance(tensor, steps.tensors.at(name)) < kOneStep);
      const double of_recipe = distance(recipe.tensors.at(name), exact.tensors.at(name));
      REQUIRE(of_recipe < layer_error());
      REQUIRE(distance(tensor, exact.tensors.at(name)) < kNoWorse * of_recipe);
    }
  }
  choose_order(0);
}

}  // namespace pipecast::kernels
