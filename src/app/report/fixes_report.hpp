/// Changes that make a plan fit, for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/memory/fixes.hpp"

namespace pipecast {

/// What goes on after the message that says what does not fit: a line and a table.
std::string fixes_text(const FixSearch& search);

/// { step_time_s, tried, fixes: [ { set: [...], step_time_s, pipeline_rank, peak_bytes,
/// capacity_bytes } ], closest: { set, missing_bytes } }; `closest` is null where something fits.
nlohmann::ordered_json fixes_json(const FixSearch& search);

}  // namespace pipecast
