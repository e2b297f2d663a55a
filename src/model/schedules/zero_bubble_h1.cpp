#include "base/error.hpp"
#include "model/schedules/split_one_f_one_b.hpp"

namespace pipecast {
namespace {

/// ZB-H1: 1F1B's order and memory, but the weight gradients wait, r of them on rank r, and fill
/// what was idle at the end. Rank r stashes min(p-r, M) micro-batches and the operands of r weight
/// gradients. Source: Qi et al. 2023 (arXiv 2401.10241), section 2.1 and table 2. DeepSeek-V3's
/// report calls it ZB1P.
Schedule make_zb_h1(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "zb-h1: {} micro-batches on {} ranks; it needs at least one of each",
                          shape.microbatches, shape.ranks);
  return split_one_f_one_b(shape, 1);
}

// Published for at least as many micro-batches as ranks. Exact where W is at most F and at most
// Bi; otherwise rank 0's wait for its first Bi or the last rank's late start weighs more: in all
// (p-1)max(F, Bi, F+Bi-W). DeepSeek's (PP-1)(F+B-2W), with B the full backward, is the same.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward_input - d.backward_weight) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "zb-h1",
    {.make = make_zb_h1,
     .bubble = {"(p-1)(F+Bi-W)", bubble},
     .description = "1F1B with the weight gradients put off (ZB1P); any ranks and micro-batches"}};

}  // namespace
}  // namespace pipecast
