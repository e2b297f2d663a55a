/// A simulated step as a trace that Perfetto opens.
#pragma once

#include <filesystem>

#include "sim/cluster/step_simulation.hpp"

namespace pipecast {

/// One process per pipeline rank (its first GPU), with a track of the schedule's passes and one for
/// each stream: compute, wgrad_side, comm.
/// @throws Error if the file cannot be written
void write_step_trace(const std::filesystem::path& path, int pipeline_ranks,
                      const StepTrace& trace);

}  // namespace pipecast
