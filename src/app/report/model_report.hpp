/// What `pipecast model` tells about a model.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/model.hpp"

namespace pipecast {

/// Layers of one kind, which are all alike.
struct LayerReport {
  std::int64_t count = 0;
  std::int64_t parameters = 0;  ///< of one layer, vectors included
  LayerOperations operations;   ///< of one micro-batch on one GPU
};

struct ModelReport {
  ModelSpec model;
  std::int64_t seq_length = 0;
  ParameterCount parameters;
  Flops flop_per_token_causal;
  Flops flop_per_token_noncausal;
  Flops flop_per_token_causal_with_mtp;
  Bytes kv_cache_per_token;
  std::vector<LayerReport> layers;  ///< in the order of the forward pass
};

/// @param plan  precisions, recomputation and expert parallelism of the operation lists
/// @throws Error for a model or plan that contradicts itself
ModelReport model_report(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length);

nlohmann::ordered_json model_json(const ModelReport& report);

/// Aligned tables for the terminal.
/// @param every_operation  with each kernel launch instead of sums by phase
std::string model_text(const ModelReport& report, bool every_operation);

}  // namespace pipecast
