#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

constexpr int kVirtualStages = 2;

/// Looped breadth-first pipeline: a rank holds v chunks, stage c x p + r as chunk c, and runs all
/// micro-batches of a chunk before the next chunk, forwards from the first chunk to the last, then
/// backwards from the last to the first. A chunk's parameters are gathered and its gradients
/// reduced once, at the price of a stash of all vM chunks. With one chunk it is GPipe. Source:
/// Lamy-Poirier 2022, Breadth-First Pipeline Parallelism (arXiv 2211.05953).
Schedule make_breadth_first(const PipelineShape& shape) {
  const int v = shape.virtual_stages == 0 ? kVirtualStages : shape.virtual_stages;
  require<ImpossiblePlan>(
      shape.ranks > 0 && shape.microbatches > 0 && v > 0,
      "bfs: {} micro-batches on {} ranks with {} virtual stages; it needs at least one of each",
      shape.microbatches, shape.ranks, v);
  std::vector<Step> steps;
  steps.reserve(2 * static_cast<std::size_t>(v) * static_cast<std::size_t>(shape.microbatches));
  const auto run_chunk = [&](Pass pass, int chunk) {
    for (int i = 0; i < shape.microbatches; ++i) steps.push_back({{pass, chunk, i}});
  };
  for (int chunk = 0; chunk < v; ++chunk) run_chunk(Pass::kForward, chunk);
  for (int chunk = v; chunk-- > 0;) run_chunk(Pass::kBackward, chunk);
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_looped(shape.ranks, v);
  out.ranks.assign(static_cast<std::size_t>(shape.ranks), steps);
  return out;
}

// Published for at least as many micro-batches as ranks. With fewer, each of the v-1 returns to
// rank 0 waits for p-M chunks more, there and back.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "bfs",
    {.make = make_breadth_first,
     .bubble = {"(p-1)(F+B)", bubble},
     .description = "virtual stages, all micro-batches of one before the next; any ranks and "
                    "micro-batches",
     .virtual_stages = kVirtualStages,
     .takes_virtual_stages = true}};

}  // namespace
}  // namespace pipecast
