/// Thread blocks of unequal length on the SMs of a GPU.
#pragma once

#include <cstdint>
#include <span>

namespace pipecast {

/// Cycles until the last of `groups * blocks.size()` thread blocks ends, when they start in order,
/// group by group, each on the SM that is free first. Never shorter with more groups, with blocks
/// that are longer or added in any place, or with fewer SMs.
///
/// Not modelled: several blocks on one SM at a time. Of more than 128 groups of unequal blocks
/// those before the last 128 are taken as spread evenly over the SMs.
/// @param blocks  cycles of the blocks of one group; all groups are alike
/// @param sms     at least 1
double last_block_end(std::span<const double> blocks, std::int64_t groups, int sms);

}  // namespace pipecast
