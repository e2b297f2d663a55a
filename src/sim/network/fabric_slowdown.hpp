/// What collisions in the fabric cost all-to-alls.
#pragma once

#include <vector>

#include "model/specs/cluster.hpp"

namespace pipecast {

/// How many times longer than its NICs alone would take does the all-to-all of each expert-parallel
/// group, if all groups exchange at once: GPUs of one index send each other the same number of
/// bytes, and flows share links max-min fairly. Exactly 1 without failures where every group stays
/// below one leaf, and where the fabric is a fat tree without oversubscription whose routing is
/// adaptive: it then spreads packets until all ways carry the same.
/// @param groups  the nodes of each group
/// @throws ImpossiblePlan where failures leave no way
/// Not modelled: groups that exchange at different times; NVLink, but where a failed port is passed
/// by over it.
std::vector<double> fabric_slowdown(const ClusterSpec& cluster,
                                    const std::vector<std::vector<int>>& groups);

}  // namespace pipecast
