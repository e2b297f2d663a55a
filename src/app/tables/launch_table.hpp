/// Kernel launches of one chunk as a table: the form of traces/h800_dualpipe_chunk/kernels.csv.
#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pipecast {

/// One line of such a table.
struct TraceRow {
  int layer = 0;
  std::string phase;   ///< as name_of(Phase): "attn(F)"
  std::string stream;  ///< compute, wgrad_side, comm
  std::string op;
  std::string gemm{};  ///< which matrix product; empty for other kernels
  /// Extents of a matrix product.
  std::optional<std::int64_t> m{};
  std::optional<std::int64_t> n{};
  std::optional<std::int64_t> k{};
  std::optional<std::int64_t> grid_ctas{};  ///< thread blocks; copies have none
  double start_us = 0;
  double duration_us = 0;
  bool again = false;  ///< of a forward phase that a backward pass runs once more; in no file
};

/// Reads layer, phase, stream, op, grid_ctas, start_us and duration_us; other columns may lack.
/// @throws Error with file, line and what is missing or wrong
std::vector<TraceRow> read_trace(const std::filesystem::path& path);

/// The text of a table of all columns. Times have six decimals, so that no picosecond is lost and
/// reading gives the same numbers again.
std::string trace_text(const std::vector<TraceRow>& rows);

/// What two records of the same chunk have in common.
struct LaunchKey {
  int layer = 0;
  std::string phase;
  std::string op;
  std::size_t occurrence = 0;  ///< of that op in that phase of that layer, in order of the rows

  auto operator<=>(const LaunchKey&) const = default;
};

/// One key per row; no two are the same.
std::vector<LaunchKey> launch_keys(const std::vector<TraceRow>& rows);

}  // namespace pipecast
