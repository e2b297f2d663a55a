/// What `pipecast network` tells about a completed set of flows.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

#include "app/network/case.hpp"
#include "sim/network/transfers.hpp"

namespace pipecast {

/// The keys of the contract: completion_s by flow, group_completion_s, makespan_s, links.
nlohmann::ordered_json network_json(const TransferPlan& plan, const Completion& completion);

/// Groups, the flows that are complete last and the busiest links, as tables for the terminal.
/// @param limit  lines of each table; 0: all
std::string network_text(const NetworkCase& network, const TransferOptions& options,
                         const Completion& completion, std::size_t limit);

}  // namespace pipecast
