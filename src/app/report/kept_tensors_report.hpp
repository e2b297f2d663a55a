/// What a micro-batch makes each kind of layer keep for its backward pass.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/specs/scenario.hpp"

namespace pipecast {

/// A table for every kind of layer of the plan's layout, at balanced routing. MB are 1e6 bytes.
std::string kept_tensors_text(const Scenario& scenario, const PlanSpec& plan);

/// Keys: layers [ { layer, bytes, tensors [ { name, precision, rows, rows_are, columns,
/// columns_are,
///   bytes, recomputed, reason } ] } ]; `recomputed`: only there during the layer's backward pass.
nlohmann::ordered_json kept_tensors_json(const Scenario& scenario, const PlanSpec& plan);

}  // namespace pipecast
