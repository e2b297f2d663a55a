/// A simulated step as a trace that Perfetto opens.
#pragma once

#include <filesystem>

#include "sim/cluster/step_memory.hpp"

namespace pipecast {

/// One process per pipeline rank (its first GPU), with a track of the schedule's passes and one for
/// each stream: compute, wgrad_side, comm; and a counter of its memory for every category and their
/// sum, in GB. Of each pass the counters tell what is held at its end and, before that, when most
/// is held: a value for every change would make the file many times as large.
/// @param memory  of the same step; of no ranks: no counters
/// @throws Error if the file cannot be written
void write_step_trace(const std::filesystem::path& path, int pipeline_ranks, const StepTrace& trace,
                      const StepMemory& memory = {});

}  // namespace pipecast
