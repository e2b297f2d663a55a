#include "model/schedules/building_block.hpp"

namespace pipecast {
namespace {

/// V-Min: a V whose passes never wait between ranks, so that its chunks live as short as can be. It
/// keeps at most 2 ceil((p+2)/3) chunks, a third of what 1F1B keeps. Source: Qi et al. 2024 (arXiv
/// 2405.15362), section 3.
Schedule make_v_min(const PipelineShape& shape) {
  require_v_shape("v-min", shape);
  // F0 and Bi1 of a rank, and F1 and Bi0, are 2(p-1) and two turns apart. Two more than a multiple
  // of six leaves every pass a place of its own, and its weight gradients theirs.
  const BuildingBlock block{.loss_turn = 1 + (4 * shape.ranks + 2) % 6};
  const int most_microbatches = (shape.ranks + 4) / 3;
  return squeeze(block, shape, 2 * most_microbatches);
}

// Published as two thirds of the bubble of 1F1B, (p-1)(F+B) for stages of two chunks, where F, Bi
// and W are equal: it is one F less for p > 2, and for p = 2 it is F. Where they differ, time may
// be lost on every micro-batch.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  const Duration sum = d.forward + d.backward_input + d.backward_weight;
  return Duration(ceil_div(sum.count() * 4 * (shape.ranks - 1), 3));
}

const Register<ScheduleKind> kEntry{
    "v-min",
    {.make = make_v_min,
     .bubble = {"4/3(p-1)(F+Bi+W)", bubble},
     .description = "a V of two chunks a rank, a third of the memory of 1F1B; any ranks and "
                    "micro-batches",
     .virtual_stages = 2}};

}  // namespace
}  // namespace pipecast
