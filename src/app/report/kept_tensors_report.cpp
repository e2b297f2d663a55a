#include "app/report/kept_tensors_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

#include "app/report/table.hpp"
#include "model/operations/layer_operations.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

/// Each kind of layer once, in the order of the layout.
std::vector<LayerOperations> layers_of_layout(const Scenario& scenario, const PlanSpec& plan) {
  std::vector<LayerOperations> out;
  std::set<LayerKind> known;
  const LayerLoad load = balanced_load(scenario.model, plan, scenario.recipe.seq_length);
  for (const std::vector<LayerKind>& stage : plan.pipeline_layout) {
    for (const LayerKind kind : stage) {
      if (!known.insert(kind).second) continue;
      LayerOperations& layer = out.emplace_back(layer_operations(scenario.model, plan, kind, load));
      // As a forward makes them.
      for (std::vector<KeptTensor>* const tensors : {&layer.kept, &layer.replayed}) {
        std::stable_sort(
            tensors->begin(), tensors->end(),
            [](const KeptTensor& a, const KeptTensor& b) { return a.made_in < b.made_in; });
      }
    }
  }
  return out;
}

Bytes sum(const std::vector<KeptTensor>& tensors) {
  Bytes out;
  for (const KeptTensor& t : tensors) out += t.bytes;
  return out;
}

std::string megabytes(Bytes bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes.count()) / 1e6);
}

void add_rows(Table& table, const std::vector<KeptTensor>& tensors) {
  for (const KeptTensor& t : tensors) {
    table.add({fmt::format("  {}", t.name), std::string(name_of(t.precision)),
               fmt::format("{} {}", grouped(static_cast<double>(t.rows)), name_of(t.rows_are)),
               fmt::format("{} {}", grouped(static_cast<double>(t.columns)), t.columns_are),
               megabytes(t.bytes), std::string(t.reason)});
  }
}

Json tensors_json(const std::vector<KeptTensor>& tensors, bool recomputed) {
  Json out = Json::array();
  for (const KeptTensor& t : tensors) {
    out.push_back({{"name", t.name},
                   {"precision", name_of(t.precision)},
                   {"rows", t.rows},
                   {"rows_are", name_of(t.rows_are)},
                   {"columns", t.columns},
                   {"columns_are", t.columns_are},
                   {"bytes", t.bytes.count()},
                   {"recomputed", recomputed},
                   {"reason", t.reason}});
  }
  return out;
}

}  // namespace

std::string kept_tensors_text(const Scenario& scenario, const PlanSpec& plan) {
  Table table({"layer and tensor", "format", "rows", "columns", "MB", "for"}, {1, 2, 3, 5});
  for (const LayerOperations& layer : layers_of_layout(scenario, plan)) {
    table.add({std::string(name_of(layer.kind)), "", "", "", megabytes(sum(layer.kept)), ""});
    add_rows(table, layer.kept);
    if (layer.replayed.empty()) continue;
    table.add(
        {"  computed again in its backward:", "", "", "", megabytes(sum(layer.replayed)), ""});
    add_rows(table, layer.replayed);
  }
  return fmt::format(
      "{}: kept for the backward pass of one micro-batch of {} x {} tokens, balanced routing\n\n{}",
      scenario.name, plan.micro_batch_size,
      grouped(static_cast<double>(scenario.recipe.seq_length)), table.text());
}

Json kept_tensors_json(const Scenario& scenario, const PlanSpec& plan) {
  Json layers = Json::array();
  for (const LayerOperations& layer : layers_of_layout(scenario, plan)) {
    Json tensors = tensors_json(layer.kept, false);
    for (Json& t : tensors_json(layer.replayed, true)) tensors.push_back(std::move(t));
    layers.push_back({{"layer", name_of(layer.kind)},
                      {"bytes", sum(layer.kept).count()},
                      {"tensors", std::move(tensors)}});
  }
  return {{"layers", std::move(layers)}};
}

}  // namespace pipecast
