#include "model/memory/gpt_layer.hpp"

#include <limits>
#include <utility>

#include "base/error.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kActivationBytes = 2;  // 16 bits
constexpr std::int64_t kMaskBytes = 1;        // of a dropout
constexpr std::int64_t kMlpWidth = 4;         // of the MLP, in hidden sizes

/// In floating point, before any product of integers can pass its range.
double unsplit_bytes(const GptLayerShape& shape) {
  GptLayerShape whole = shape;
  whole.tensor_parallel = 1;
  whole.sequence_parallel = false;
  whole.recompute = GptRecompute::kNone;
  return gpt_layer_formula(whole).bytes;
}

void check(const GptLayerShape& p) {
  require(p.sequence > 0 && p.micro_batch > 0 && p.hidden > 0 && p.heads > 0,
          "a GPT layer's extents must be positive: sequence={} micro_batch={} hidden={} heads={}",
          p.sequence, p.micro_batch, p.hidden, p.heads);
  require(p.tensor_parallel > 0, "tensor_parallel must be positive, not {}", p.tensor_parallel);
  require(p.hidden % p.heads == 0, "hidden={} cannot be split evenly into {} heads", p.hidden,
          p.heads);
  require(p.heads % p.tensor_parallel == 0,
          "{} heads cannot be split evenly over tensor_parallel={} GPUs", p.heads,
          p.tensor_parallel);
  require(
      !p.sequence_parallel || p.sequence % p.tensor_parallel == 0,
      "a sequence of {} tokens cannot be split evenly over tensor_parallel={} GPUs, as sequence "
      "parallelism does",
      p.sequence, p.tensor_parallel);
  // 2^63, with room for the rounding of the check itself.
  constexpr double kMost = 0.99 * static_cast<double>(std::numeric_limits<std::int64_t>::max());
  require(unsplit_bytes(p) < kMost, "a GPT layer of this size would keep {:.3g} bytes",
          unsplit_bytes(p));
}

/// Tensors in the order of the forward pass.
class LayerTensors {
 public:
  explicit LayerTensors(const GptLayerShape& shape) : shape_(shape) {}

  /// A row per token: all of its hidden values, or those between layers if split by sequence.
  void add_tokens(std::string_view name, std::string_view reason, std::int64_t bytes_per_element) {
    const std::int64_t split = shape_.sequence_parallel ? shape_.tensor_parallel : 1;
    tensors_.push_back({name, reason, shape_.sequence / split * shape_.micro_batch, shape_.hidden,
                        bytes_per_element, GptSplit::kSequence});
  }
  /// A row per token with a share of the columns.
  void add_columns(std::string_view name, std::string_view reason, std::int64_t width) {
    tensors_.push_back({name, reason, shape_.sequence * shape_.micro_batch,
                        width / shape_.tensor_parallel, kActivationBytes, GptSplit::kTensor});
  }
  /// A number for each pair of tokens in each head.
  void add_scores(std::string_view name, std::string_view reason, std::int64_t bytes_per_element) {
    tensors_.push_back(
        {name, reason, shape_.heads / shape_.tensor_parallel * shape_.micro_batch * shape_.sequence,
         shape_.sequence, bytes_per_element, GptSplit::kTensor});
  }
  [[nodiscard]] std::vector<GptTensor> take() && { return std::move(tensors_); }

 private:
  const GptLayerShape& shape_;
  std::vector<GptTensor> tensors_;
};

void add_attention(LayerTensors& out, const GptLayerShape& p) {
  out.add_tokens("attention_norm_input", "gradient of the first layer norm", kActivationBytes);
  out.add_tokens("qkv_input", "weight gradients of Q, K and V, which share it", kActivationBytes);
  out.add_columns("q", "gradient of K through Q K^T", p.hidden);
  out.add_columns("k", "gradient of Q through Q K^T", p.hidden);
  if (p.recompute == GptRecompute::kNone) {
    out.add_scores("softmax_output", "gradient of the softmax", kActivationBytes);
    out.add_scores("softmax_dropout_mask", "gradient of the softmax's dropout", kMaskBytes);
    out.add_scores("softmax_dropout_output", "gradient of V", kActivationBytes);
  }
  out.add_columns("v", "gradient of the attention's weights over V", p.hidden);
  out.add_columns("projection_input", "weight gradient of the output projection", p.hidden);
  out.add_tokens("attention_dropout_mask", "gradient of the attention's dropout", kMaskBytes);
}

void add_mlp(LayerTensors& out, const GptLayerShape& p) {
  out.add_tokens("mlp_norm_input", "gradient of the second layer norm", kActivationBytes);
  out.add_tokens("mlp_up_input", "weight gradient of the first linear layer", kActivationBytes);
  out.add_columns("gelu_input", "gradient of GELU", kMlpWidth * p.hidden);
  out.add_columns("mlp_down_input", "weight gradient of the second linear layer",
                  kMlpWidth * p.hidden);
  out.add_tokens("mlp_dropout_mask", "gradient of the MLP's dropout", kMaskBytes);
}

}  // namespace

std::vector<GptTensor> gpt_layer_tensors(const GptLayerShape& shape) {
  check(shape);
  LayerTensors out(shape);
  if (shape.recompute == GptRecompute::kFull) {
    out.add_tokens("layer_input", "the forward pass starts from it again", kActivationBytes);
  } else {
    add_attention(out, shape);
    add_mlp(out, shape);
  }
  return std::move(out).take();
}

Bytes sum_of(const std::vector<GptTensor>& tensors) {
  Bytes out;
  for (const GptTensor& tensor : tensors) out += tensor.bytes();
  return out;
}

GptFormula gpt_layer_formula(const GptLayerShape& p) {
  const auto s = static_cast<double>(p.sequence);
  const auto h = static_cast<double>(p.hidden);
  const auto a = static_cast<double>(p.heads);
  const auto t = static_cast<double>(p.tensor_parallel);
  const double sbh = s * static_cast<double>(p.micro_batch) * h;
  const bool split = p.tensor_parallel > 1;
  const bool by_sequence = split && p.sequence_parallel;
  switch (p.recompute) {
    case GptRecompute::kFull:
      if (by_sequence) return {"2 s b h / t", 2 * sbh / t};
      return {"2 s b h", 2 * sbh};
    case GptRecompute::kSelective:
      if (by_sequence) return {"34 s b h / t", sbh / t * 34};
      if (split) return {"s b h (10 + 24/t)", sbh * (10 + 24 / t)};
      return {"34 s b h", 34 * sbh};
    case GptRecompute::kNone:
      if (by_sequence) return {"s b h / t (34 + 5 a s / h)", sbh / t * (34 + 5 * a * s / h)};
      if (split) {
        return {"s b h (10 + 24/t + 5 a s / (h t))", sbh * (10 + 24 / t + 5 * a * s / (h * t))};
      }
      return {"s b h (34 + 5 a s / h)", sbh * (34 + 5 * a * s / h)};
  }
  return {};
}

std::vector<GptVariant> gpt_layer_variants(const GptLayerShape& shape) {
  struct Line {
    std::string_view name;
    bool tensor;
    bool sequence;
    GptRecompute recompute;
  };
  constexpr Line kTable2[] = {
      {"no parallelism", false, false, GptRecompute::kNone},
      {"tensor", true, false, GptRecompute::kNone},
      {"tensor and sequence", true, true, GptRecompute::kNone},
      {"tensor, selective recomputation", true, false, GptRecompute::kSelective},
      {"tensor and sequence, selective recomputation", true, true, GptRecompute::kSelective},
      {"full recomputation", true, false, GptRecompute::kFull},
  };
  std::vector<GptVariant> out;
  for (const Line& line : kTable2) {
    GptLayerShape variant = shape;
    if (!line.tensor) variant.tensor_parallel = 1;
    variant.sequence_parallel = line.sequence;
    variant.recompute = line.recompute;
    GptVariant& row = out.emplace_back();
    row.name = line.name;
    row.formula = gpt_layer_formula(variant);
    const bool possible = !line.sequence || shape.sequence % shape.tensor_parallel == 0;
    if (possible) row.kept = sum_of(gpt_layer_tensors(variant));
  }
  return out;
}

}  // namespace pipecast
