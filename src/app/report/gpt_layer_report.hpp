/// What one layer of a GPT keeps for its backward pass, beside the published formulas.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/memory/gpt_layer.hpp"

namespace pipecast {

struct GptLayerReport {
  GptLayerShape shape;
  std::vector<GptTensor> tensors;
  Bytes kept;          ///< sum of the tensors, on one GPU
  GptFormula formula;  ///< of the same shape
  std::vector<GptVariant> variants;
};

/// @throws Error for a shape that does not exist or cannot be split
GptLayerReport gpt_layer_report(const GptLayerShape& shape);

/// The tensors, their sum and the formula's value, and the variants, a line each.
std::string gpt_layer_text(const GptLayerReport& report);

/// Keys: shape { sequence, micro_batch, hidden, heads, tensor_parallel, sequence_parallel,
///   recompute }, tensors [ { name, rows, columns, bytes_per_element, bytes, split, reason } ],
///   kept_bytes, formula, formula_bytes, variants [ { name, formula, formula_bytes, kept_bytes } ],
///   kept_bytes null where the sequence cannot be split.
nlohmann::ordered_json gpt_layer_json(const GptLayerReport& report);

}  // namespace pipecast
