/// A played chunk as a trace that Perfetto opens.
#pragma once

#include <filesystem>
#include <string>

#include "app/chunk/chunk_run.hpp"

namespace pipecast {

/// One process, a thread for each stream, a slice for every kernel, and counters of SMs and of HBM,
/// NVLink and NIC traffic.
/// @param name  of the process
/// @throws Error if the file cannot be written
void write_chunk_trace(const std::filesystem::path& path, const std::string& name,
                       const ChunkRun& run);

}  // namespace pipecast
