#include <algorithm>

#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

constexpr int kVirtualStages = 2;

/// Interleaved 1F1B: a rank holds v chunks, stage c x p + r as chunk c, and takes micro-batches in
/// groups of p: a group through chunk 0, then through chunk 1, ... (backwards from the last chunk
/// to the first). Rank r runs 2(p-1-r) + (v-1)p chunks forward to warm up, then one forward and one
/// backward in turn, then drains; it stashes one chunk more than it warms up with, at most vM. The
/// factor 2 leaves a transfer time to arrive while another chunk runs. Source: Narayanan et al.
/// 2021 (Megatron-LM), section 2.2.2, and its code, megatron/core/pipeline_parallel/schedules.py.
Schedule make_interleaved(const PipelineShape& shape) {
  const int p = shape.ranks;
  const int v = shape.virtual_stages == 0 ? kVirtualStages : shape.virtual_stages;
  require<ImpossiblePlan>(
      p > 0 && v >= 2 && shape.microbatches > 0 && shape.microbatches % p == 0,
      "interleaved: {} micro-batches on {} ranks with {} virtual stages; it needs at least one "
      "rank, a positive multiple of the ranks as micro-batches and at least 2 virtual stages",
      shape.microbatches, p, v);
  const int chunks = v * shape.microbatches;
  const int group = v * p;  // chunks of the same p micro-batches
  const auto forward = [&](int n) {
    return Step{{Pass::kForward, n % group / p, n / group * p + n % p}};
  };
  const auto backward = [&](int n) {
    return Step{{Pass::kBackward, v - 1 - n % group / p, n / group * p + n % p}};
  };
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_looped(p, v);
  for (int rank = 0; rank < p; ++rank) {
    auto& steps = out.ranks.emplace_back();
    steps.reserve(2 * static_cast<std::size_t>(chunks));
    const int warmup = std::min(2 * (p - 1 - rank) + (v - 1) * p, chunks);
    for (int n = 0; n < warmup; ++n) steps.push_back(forward(n));
    for (int n = warmup; n < chunks; ++n) {
      steps.push_back(forward(n));
      steps.push_back(backward(n - warmup));
    }
    for (int n = chunks - warmup; n < chunks; ++n) steps.push_back(backward(n));
  }
  return out;
}

// Exact: (p-1)/v of what a whole micro-batch takes on the rank.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "interleaved",
    {.make = make_interleaved,
     .bubble = {"(p-1)(F+B)", bubble},
     .description = "1F1B over virtual stages; micro-batches a multiple of the ranks",
     .virtual_stages = kVirtualStages,
     .takes_virtual_stages = true}};

}  // namespace
}  // namespace pipecast
