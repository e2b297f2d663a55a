/// What `pipecast network` tells about a fabric: its parts and their price.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/network/fabric_case.hpp"

namespace pipecast {

/// topology, routing, endpoints, switches, links, cost_usd, cost_per_endpoint_usd.
nlohmann::ordered_json fabric_json(const FabricCase& fabric);

/// The same as lines for the terminal.
std::string fabric_text(const FabricCase& fabric);

}  // namespace pipecast
