#include "base/error.hpp"
#include "model/schedules/split_one_f_one_b.hpp"

namespace pipecast {
namespace {

/// ZB-H2: twice the warm-up of 1F1B fills the wait for the first backward, and twice the weight
/// gradients of ZB-H1 wait, 2r on rank r, so that every rank does the same work one F later than
/// the rank before. Rank r stashes min(2(p-r)-1, M) micro-batches and the operands of 2r weight
/// gradients. Source: Qi et al. 2023 (arXiv 2401.10241), section 2.2 and table 2.
Schedule make_zb_h2(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "zb-h2: {} micro-batches on {} ranks; it needs at least one of each",
                          shape.microbatches, shape.ranks);
  return split_one_f_one_b(shape, 2);
}

// Published for at least 2p-1 micro-batches, and between a rank's own first and last step: the
// optimizer step does not wait for the other ranks (section 4), so rank r begins and ends every
// training step r F later than rank 0. Exact on rank 0, which idles most, where W is at most F and
// at most (F+Bi)/2; otherwise rank r idles (p-1-r)max(0, Bi-F, F+Bi-2W) in between. Makespan less
// busy time, which counts the shift, is (p-1)max(F, Bi-F, F+Bi-2W).
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward_input - d.backward_weight * 2) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "zb-h2",
    {.make = make_zb_h2,
     .bubble = {"(p-1)(F+Bi-2W)", bubble},
     .description = "zero-bubble with twice the memory of 1F1B; any ranks and micro-batches"}};

}  // namespace
}  // namespace pipecast
