#include "model/schedules/building_block.hpp"

namespace pipecast {
namespace {

/// V-Half: a V whose chunks live half as long as those of ZB-V. It keeps 2 ceil((p+1)/2) chunks,
/// half of what 1F1B keeps. Source: Qi et al. 2024 (arXiv 2405.15362), section 3. The sums of the
/// offsets are theirs; how they are split, and the turns, were searched for the least idle time.
Schedule make_v_half(const PipelineShape& shape) {
  require_v_shape("v-half", shape);
  BuildingBlock block{.forward_down = 1, .forward_up = 2, .backward_down = 1, .backward_up = 2};
  // F0 and Bi1 of a rank, and F1 and Bi0, are 3(p-1) and two turns apart, which the turns bring to
  // two and three more than a multiple of six.
  const bool even = shape.ranks % 2 == 0;
  block.forward_turn = even ? 4 : 1;
  block.backward_turn = even ? 5 : 2;
  const int most_microbatches = shape.ranks / 2 + 1;
  return squeeze(block, shape, 2 * most_microbatches);
}

// Published as half the bubble of 1F1B, (p-1)(F+B) for stages of two chunks. Where F, Bi and W are
// equal and there are at least p micro-batches it is one F less for odd p > 1, three F less for
// even p > 2 and one F less for p = 2. Where they differ, time may be lost on every micro-batch.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward_input + d.backward_weight) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "v-half",
    {.make = make_v_half,
     .bubble = {"(p-1)(F+Bi+W)", bubble},
     .description = "a V of two chunks a rank, half the memory of 1F1B; any ranks and "
                    "micro-batches",
     .virtual_stages = 2}};

}  // namespace
}  // namespace pipecast
