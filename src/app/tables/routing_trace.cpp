#include "app/tables/routing_trace.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "app/tables/csv.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

/// A whole number of at least 0, below `limit`.
int index_at(const CsvTable& table, std::size_t row, std::string_view column, int limit) {
  const double value = table.number(row, column);
  require(value >= 0 && value < limit && value == std::floor(value),
          "{}: {}: '{}' is no whole number within 0 and {}", table.place(row, column), column,
          table.text(row, column), limit - 1);
  return static_cast<int>(value);
}

}  // namespace

RecordedLoads read_routing_trace(const std::filesystem::path& path, int experts) {
  constexpr int kMost = 1 << 16;                 // steps, layers or ranks
  constexpr std::int64_t kMostCounts = 1 << 26;  // half a gibibyte
  const CsvTable table(path);
  RecordedLoads out{.steps = 0, .layers = 0, .groups = 0, .experts = experts, .tokens = {}};
  for (std::size_t row = 0; row < table.rows(); ++row) {
    out.steps = std::max(out.steps, index_at(table, row, "step", kMost) + 1);
    out.layers = std::max(out.layers, index_at(table, row, "layer", kMost) + 1);
    out.groups = std::max(out.groups, index_at(table, row, "rank", kMost) + 1);
  }
  require(table.rows() > 0, "{}: has no counts", table.place_of_header());
  const std::int64_t rows = std::int64_t{out.steps} * out.layers;
  require(rows <= kMostCounts && rows * out.groups * experts <= kMostCounts,
          "{}: {} steps, {} layers, {} ranks and {} experts are more than {} counts",
          table.place_of_header(), out.steps, out.layers, out.groups, experts, kMostCounts);
  out.tokens.resize(static_cast<std::size_t>(rows * out.groups * experts));
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const double tokens = table.number(row, "tokens");
    require(tokens >= 0 && std::isfinite(tokens), "{}: tokens: '{}' is no count",
            table.place(row, "tokens"), table.text(row, "tokens"));
    const int place =
        (index_at(table, row, "step", kMost) * out.layers + index_at(table, row, "layer", kMost)) *
            out.groups +
        index_at(table, row, "rank", kMost);
    out.tokens[static_cast<std::size_t>(place) * static_cast<std::size_t>(experts) +
               static_cast<std::size_t>(index_at(table, row, "expert", experts))] += tokens;
  }
  return out;
}

}  // namespace pipecast
