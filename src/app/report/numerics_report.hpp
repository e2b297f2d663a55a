/// What `pipecast numerics` tells.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/numerics/numerics_table.hpp"

namespace pipecast {

/// "k 4096, bits 13": the settings of one value; empty if none is.
std::string fixed_settings(const NumericsTable& table);

/// A table for the terminal; settings of one value stand above it.
std::string numerics_text(const NumericsTable& table);

/// Keys: study, rows [ { setting: number or text, ..., measure: number, ... } ].
nlohmann::ordered_json numerics_json(const NumericsTable& table);

/// A measure over the first setting whose values are all numbers and of which there are several; a
/// line for every combination of the others.
/// @param measure  its key
/// @throws Error on an unknown measure, without such a setting, or with more lines than eyes tell
///         apart
std::string numerics_svg(const NumericsTable& table, const std::string& measure);

}  // namespace pipecast
