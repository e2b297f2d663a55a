/// What one layer of a GPT keeps for its backward pass, tensor by tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// What is computed again in the backward pass instead of being kept.
enum class GptRecompute {
  kNone,
  kSelective,  ///< the core attention: softmax, its dropout, what follows from its scores
  kFull,       ///< the whole layer, from its input
};

constexpr std::string_view name_of(GptRecompute recompute) {
  switch (recompute) {
    case GptRecompute::kNone:
      return "none";
    case GptRecompute::kSelective:
      return "selective";
    case GptRecompute::kFull:
      return "full";
  }
  return "";
}

/// A layer with multi-head attention and an MLP of 4 hidden with GELU, and how it is spread.
struct GptLayerShape {
  std::int64_t sequence = 0;         ///< s, tokens
  std::int64_t micro_batch = 1;      ///< b, sequences
  std::int64_t hidden = 0;           ///< h
  std::int64_t heads = 0;            ///< a
  std::int64_t tensor_parallel = 1;  ///< t, GPUs that split heads and the MLP's columns
  bool sequence_parallel = false;    ///< norms and dropouts split by sequence over the same GPUs
  GptRecompute recompute = GptRecompute::kNone;
};

/// Which parallelism divides a tensor by t.
enum class GptSplit {
  kTensor,    ///< tensor parallelism: by heads or by columns of the MLP
  kSequence,  ///< sequence parallelism only; with tensor parallelism alone every GPU has it whole
};

constexpr std::string_view name_of(GptSplit split) {
  return split == GptSplit::kTensor ? "tensor" : "sequence";
}

/// A tensor as one GPU keeps it.
struct GptTensor {
  std::string_view name;
  std::string_view reason;  ///< what the backward pass needs it for
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t bytes_per_element = 0;
  GptSplit split = GptSplit::kTensor;

  [[nodiscard]] Bytes bytes() const { return Bytes(rows * columns * bytes_per_element); }
};

/// Activations have 16 bits, dropout masks one byte an element; attention writes its scores to
/// memory (no flash attention). Mean and variance of the norms, 2 b s numbers beside s b h, are
/// left out, as the source leaves them out. Source: Korthikanti et al. 2022 (arXiv 2205.05198),
/// section 4.
/// @throws Error if an extent is not positive, heads do not divide hidden, t does not divide heads
///         (and with them hidden), or, with sequence parallelism, the sequence; or if the sum
///         passes 2^63 bytes
std::vector<GptTensor> gpt_layer_tensors(const GptLayerShape& shape);

Bytes sum_of(const std::vector<GptTensor>& tensors);

/// What the paper prints for the layer's sum, evaluated as it stands there.
struct GptFormula {
  std::string_view text;
  double bytes = 0;
};

/// Equation 1 without parallelism, 2 with tensor, 4 with sequence parallelism, Table 2 with
/// recomputation. The paper gives full recomputation as 2 s b h; with sequence parallelism the
/// layer's input is divided like everything between layers, so that it is 2 s b h / t.
GptFormula gpt_layer_formula(const GptLayerShape& shape);

/// One line of the paper's Table 2, for the same layer.
struct GptVariant {
  std::string_view name;
  GptFormula formula;
  std::optional<Bytes> kept;  ///< none where t does not divide the sequence
};

/// The six lines of Table 2 at the shape's t; `sequence_parallel` and `recompute` do not matter.
/// @throws Error as gpt_layer_tensors
std::vector<GptVariant> gpt_layer_variants(const GptLayerShape& shape);

}  // namespace pipecast
