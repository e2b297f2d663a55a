/// Recorded counts of tokens by expert, traces/routing/.
#pragma once

#include <filesystem>

#include "model/routing/popularity.hpp"

namespace pipecast {

/// Reads a CSV with the columns step, layer, rank, expert, tokens, in any order of rows. Numbers
/// count from 0; what is not listed is 0.
/// @param experts  of a layer, as the model has them
/// @throws Error with file, line and column
RecordedLoads read_routing_trace(const std::filesystem::path& path, int experts);

}  // namespace pipecast
