#include "app/tables/launch_table.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>
#include <map>
#include <string_view>
#include <tuple>

#include "app/tables/csv.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

/// A day: far more than any chunk takes, and far below what a picosecond count holds.
constexpr double kLongest = 86'400e6;  // us
constexpr double kMostLayers = 10'000;
/// Far beyond any launch.
constexpr double kMostBlocks = 2'147'483'647;

std::vector<std::string> phase_names() {
  std::vector<std::string> out;
  for (int p = 0; p < kPhases; ++p) out.emplace_back(name_of(static_cast<Phase>(p)));
  return out;
}

std::vector<std::string> stream_names() {
  std::vector<std::string> out;
  for (const Stream stream : {Stream::kCompute, Stream::kSide, Stream::kCommunication}) {
    out.emplace_back(name_of(stream));
  }
  return out;
}

/// A cell that is one of a few words.
const std::string& word(const CsvTable& table, std::size_t row, std::string_view column,
                        const std::vector<std::string>& known) {
  const std::string& cell = table.text(row, column);
  for (const std::string& name : known) {
    if (cell == name) return cell;
  }
  throw Error(fmt::format("{}: {}: '{}' is none of: {}", table.place(row, column), column, cell,
                          join(known)));
}

double number_up_to(const CsvTable& table, std::size_t row, std::string_view column, double most) {
  const double value = table.number(row, column);
  require(value >= 0 && value <= most, "{}: {}: '{}' is not within 0 and {:.0f}",
          table.place(row, column), column, table.text(row, column), most);
  return value;
}

std::int64_t whole_up_to(const CsvTable& table, std::size_t row, std::string_view column,
                         double most) {
  const double value = number_up_to(table, row, column, most);
  require(value == std::floor(value), "{}: {}: '{}' is not a whole number",
          table.place(row, column), column, table.text(row, column));
  return static_cast<std::int64_t>(value);
}

std::string cell(const std::optional<std::int64_t>& value) {
  return value ? std::to_string(*value) : "";
}

}  // namespace

std::vector<TraceRow> read_trace(const std::filesystem::path& path) {
  static const std::vector<std::string> kPhaseNames = phase_names();
  static const std::vector<std::string> kStreamNames = stream_names();
  const CsvTable table(path);
  std::vector<TraceRow> rows;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    std::optional<std::int64_t> blocks;
    if (!table.text(i, "grid_ctas").empty()) {
      blocks = whole_up_to(table, i, "grid_ctas", kMostBlocks);
    }
    rows.push_back({.layer = static_cast<int>(whole_up_to(table, i, "layer", kMostLayers)),
                    .phase = word(table, i, "phase", kPhaseNames),
                    .stream = word(table, i, "stream", kStreamNames),
                    .op = table.text(i, "op"),
                    .grid_ctas = blocks,
                    .start_us = number_up_to(table, i, "start_us", kLongest),
                    .duration_us = number_up_to(table, i, "duration_us", kLongest)});
  }
  return rows;
}

std::string trace_text(const std::vector<TraceRow>& rows) {
  std::string out = "layer,phase,stream,op,gemm,m,n,k,grid_ctas,start_us,duration_us\n";
  for (const TraceRow& row : rows) {
    fmt::format_to(std::back_inserter(out), "{},{},{},{},{},{},{},{},{},{:.6f},{:.6f}\n", row.layer,
                   row.phase, row.stream, row.op, row.gemm, cell(row.m), cell(row.n), cell(row.k),
                   cell(row.grid_ctas), row.start_us, row.duration_us);
  }
  return out;
}

std::vector<LaunchKey> launch_keys(const std::vector<TraceRow>& rows) {
  std::map<std::tuple<int, std::string, std::string>, std::size_t> seen;
  std::vector<LaunchKey> keys;
  for (const TraceRow& row : rows) {
    keys.push_back({row.layer, row.phase, row.op, seen[{row.layer, row.phase, row.op}]++});
  }
  return keys;
}

}  // namespace pipecast
