/// Headroom for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/memory/headroom.hpp"

namespace pipecast {

std::string headroom_text(const Headroom& headroom);

/// { phase, schedule, micro_batches, capacity_bytes, seq_length, micro_batch_size, imbalance }, the
/// last three { present, largest, pipeline_rank, peak_bytes, stopped_by { at, pipeline_rank,
/// category, grown_bytes, missing_bytes } }. `largest` null: nothing fits; `stopped_by` null:
/// nothing stops it.
nlohmann::ordered_json headroom_json(const Headroom& headroom);

}  // namespace pipecast
