/// Rings over any members: the steps that ring collectives and the hierarchical ones share.
#pragma once

#include <vector>

#include "sim/network/collectives/collective.hpp"

namespace pipecast {

/// Adds `steps` steps of a ring to a list of transfers: in every step each member sends a part of
/// the buffer to the next one, after its own send and its receipt of the step before.
/// @param members  in the order of the ring
/// @param bytes    of the buffer, which is cut into as many parts as there are members
/// @param first    part that member 0 sends first; member i sends part first + i, then one less
///                 with every step
/// @param after    by position on the ring: what the first step waits for; none: nothing
/// @returns by position on the ring: what it sent and received last
std::vector<std::vector<int>> add_ring(std::vector<Transfer>& out, const std::vector<int>& members,
                                       Bytes bytes, int first, int steps,
                                       const std::vector<std::vector<int>>& after);

}  // namespace pipecast
