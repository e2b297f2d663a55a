#include "app/calibration/trace_rows.hpp"

#include <map>
#include <tuple>

#include "app/tables/csv.hpp"

namespace pipecast {

std::vector<TraceRow> read_trace(const std::filesystem::path& path) {
  const CsvTable table(path);
  std::vector<TraceRow> rows;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    std::optional<std::int64_t> blocks;
    if (!table.text(i, "grid_ctas").empty()) {
      blocks = static_cast<std::int64_t>(table.number(i, "grid_ctas"));
    }
    rows.push_back({.layer = static_cast<int>(table.number(i, "layer")),
                    .phase = table.text(i, "phase"),
                    .stream = table.text(i, "stream"),
                    .op = table.text(i, "op"),
                    .grid_ctas = blocks,
                    .start_us = table.number(i, "start_us"),
                    .duration_us = table.number(i, "duration_us")});
  }
  return rows;
}

std::vector<LaunchKey> launch_keys(const std::vector<TraceRow>& rows) {
  std::map<std::tuple<int, std::string, std::string>, std::size_t> seen;
  std::vector<LaunchKey> keys;
  for (const TraceRow& row : rows) {
    keys.push_back({row.layer, row.phase, row.op, seen[{row.layer, row.phase, row.op}]++});
  }
  return keys;
}

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

}  // namespace pipecast
