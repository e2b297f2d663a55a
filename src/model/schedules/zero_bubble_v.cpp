#include "model/schedules/building_block.hpp"

namespace pipecast {
namespace {

/// ZB-V: forwards hurry down the ranks and wait on their way up, and so do the backwards, until
/// every rank has 2p chunks to work on, as much as 1F1B keeps (p micro-batches of two chunks).
/// Source: Qi et al. 2023 (arXiv 2401.10241), section 6; Qi et al. 2024 (arXiv 2405.15362),
/// section 3 (V-ZB). The sums of the offsets are theirs; how they are split was searched for the
/// least idle time.
constexpr BuildingBlock kBlock{
    .forward_down = 1, .forward_up = 5, .backward_down = 1, .backward_up = 5};

Schedule make_zb_v(const PipelineShape& shape) {
  require_v_shape("zb-v", shape);
  return squeeze(kBlock, shape, 2 * shape.ranks);
}

// Published where F, Bi and W are equal, for at least 2p micro-batches and between a rank's own
// first and last step: the optimizer step does not wait for the other ranks, so rank r begins and
// ends every training step r F later than rank 0. Makespan less busy time, which counts the shift,
// is (p-1)F, from p micro-batches on.
Duration bubble(const PipelineShape&, const PassDurations&) { return {}; }

const Register<ScheduleKind> kEntry{
    "zb-v",
    {.make = make_zb_v,
     .bubble = {"0", bubble},
     .description = "zero-bubble on a V of two chunks a rank, memory of 1F1B; any ranks and "
                    "micro-batches",
     .virtual_stages = 2}};

}  // namespace
}  // namespace pipecast
