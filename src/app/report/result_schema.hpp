/// JSON Schema (draft-07) of pipecast-result/1, for editors and scripts that read results.
#pragma once

#include <nlohmann/json.hpp>

namespace pipecast {

/// Describes exactly what result_json() writes: every key is required, no other is allowed. The
/// resolved scenario under `config` is an object here; the schema of scenarios describes it.
nlohmann::ordered_json result_schema();

}  // namespace pipecast
