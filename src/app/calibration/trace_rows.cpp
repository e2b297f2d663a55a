#include "app/calibration/trace_rows.hpp"

#include <map>
#include <utility>

#include "model/operations/layer_operations.hpp"

namespace pipecast {

namespace {

std::optional<TraceFamily> family_of(const TraceRow& row, const Operation& operation) {
  if (row.stream != "compute") return std::nullopt;
  const std::string_view op = operation.op;
  if (op == "gemm_fp8" || op == "grouped_gemm_fp8") return TraceFamily::kProducts;
  if (op == "gemm_fp8_wgrad") {
    const bool routed = operation.label.substr(0, 6) == "routed";
    return routed ? std::nullopt : std::optional(TraceFamily::kWeightGradients);
  }
  if (op.substr(0, 5) == "gate_") return TraceFamily::kRouterProducts;
  if (op == "attention_fwd" || op == "attention_bwd") return TraceFamily::kAttention;
  if (op == "elementwise") return TraceFamily::kElementwise;
  if (op.substr(0, 3) == "ep_") return std::nullopt;
  return TraceFamily::kMemoryBound;
}

bool is_backward(const TraceRow& row) { return row.phase.find("(F)") == std::string::npos; }

/// Routed rows and received tokens of one pass of one layer.
LayerLoad measured_load(const std::vector<TraceRow>& rows,
                        const std::vector<std::optional<Operation>>& operations,
                        const LayerLoad& balanced) {
  LayerLoad out = balanced;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!operations[i] || !rows[i].grid_ctas) continue;
    const Operation& operation = *operations[i];
    const bool routed =
        operation.label == (is_backward(rows[i]) ? "routed_gate_up_dgrad" : "routed_gate_up");
    if (operation.op == "cast_fp8_1x128" && routed) out.routed_tokens = *rows[i].grid_ctas;
    if (operation.op == "unpermute_reduce") out.received_tokens = *rows[i].grid_ctas;
  }
  return out;
}

}  // namespace

std::vector<std::optional<Operation>> operations_of(const std::vector<TraceRow>& rows,
                                                    const LayerOperations& layer) {
  std::map<std::pair<std::string_view, std::string_view>, std::vector<Operation>> by_kind;
  for (int p = 0; p < kPhases; ++p) {
    const auto phase = static_cast<Phase>(p);
    for (const Operation& op : layer.at(phase)) by_kind[{name_of(phase), op.op}].push_back(op);
  }
  std::vector<std::optional<Operation>> out;
  for (const LaunchKey& key : launch_keys(rows)) {
    const auto it = by_kind.find({key.phase, key.op});
    const bool known = it != by_kind.end() && key.occurrence < it->second.size();
    out.push_back(known ? std::optional(it->second[key.occurrence]) : std::nullopt);
  }
  return out;
}

std::vector<std::optional<Operation>> operations_as_run(const std::vector<TraceRow>& rows,
                                                        const ModelSpec& model,
                                                        const PlanSpec& plan) {
  std::map<std::pair<int, bool>, std::vector<std::size_t>> passes;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    passes[{rows[i].layer, is_backward(rows[i])}].push_back(i);
  }
  const LayerLoad balanced = balanced_load(model, plan, kTraceSequence);
  const LayerOperations layer = layer_operations(model, plan, LayerKind::kMoe, balanced);
  std::vector<std::optional<Operation>> out(rows.size());
  for (const auto& [pass, indices] : passes) {
    std::vector<TraceRow> own;
    own.reserve(indices.size());
    for (const std::size_t i : indices) own.push_back(rows[i]);
    const LayerLoad load = measured_load(own, operations_of(own, layer), balanced);
    const std::vector<std::optional<Operation>> operations =
        operations_of(own, layer_operations(model, plan, LayerKind::kMoe, load));
    for (std::size_t i = 0; i < indices.size(); ++i) out[indices[i]] = operations[i];
  }
  return out;
}

std::string_view name_of(TraceFamily family) {
  switch (family) {
    case TraceFamily::kProducts:
      return "FP8 products";
    case TraceFamily::kRouterProducts:
      return "router products";
    case TraceFamily::kWeightGradients:
      return "FP8 weight gradients";
    case TraceFamily::kAttention:
      return "attention";
    case TraceFamily::kMemoryBound:
      return "memory-bound kernels";
    case TraceFamily::kElementwise:
      return "elementwise kernels";
  }
  return "";
}

std::vector<TracedKernel> traced_kernels(const std::filesystem::path& traces,
                                         const ModelSpec& model, const PlanSpec& plan) {
  const std::vector<TraceRow> rows = read_trace(traces / kTraceFile);
  const std::vector<std::optional<Operation>> operations = operations_as_run(rows, model, plan);
  std::vector<TracedKernel> out;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!operations[i]) continue;
    const std::optional<TraceFamily> family = family_of(rows[i], *operations[i]);
    const bool resolved = rows[i].duration_us > 0 || family == TraceFamily::kElementwise;
    if (family && resolved) out.push_back({rows[i], *operations[i], *family});
  }
  return out;
}

}  // namespace pipecast
