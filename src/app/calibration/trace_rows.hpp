/// The recorded launches of one GPU, and which operation of the model each of them is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/operations/operation.hpp"

namespace pipecast {

/// One line of traces/h800_dualpipe_chunk/kernels.csv, or of a file of that form.
struct TraceRow {
  int layer = 0;
  std::string phase;   ///< as name_of(Phase): "attn(F)"
  std::string stream;  ///< compute, wgrad_side, comm
  std::string op;
  std::optional<std::int64_t> grid_ctas;  ///< thread blocks; copies have none
  double start_us = 0;
  double duration_us = 0;
};

/// @throws Error with file, line and what is missing
std::vector<TraceRow> read_trace(const std::filesystem::path& path);

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

/// The operation of every row: that of the same phase, kind and occurrence in a layer's list, if
/// there is one. All layers of the trace are of one kind.
std::vector<std::optional<Operation>> operations_of(const std::vector<TraceRow>& rows,
                                                    const LayerOperations& layer);

}  // namespace pipecast
