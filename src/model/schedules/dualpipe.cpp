#include <algorithm>
#include <queue>

#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

/// Writes the steps of one rank. Directions are seen from the rank: `near` is the one whose first
/// stage is on the rank's half of the pipeline, `far` the other.
class RankWriter {
 public:
  explicit RankWriter(int near_direction) : near_{near_direction}, far_{1 - near_direction} {}

  void forward_near() { single(Pass::kForward, near_); }
  void forward_far() { single(Pass::kForward, far_); }
  void backward_near() { single(Pass::kBackward, near_); }
  void backward_far() { single(Pass::kBackward, far_); }
  /// The weight gradients are put off until weight() runs.
  void backward_input_near() { split(near_); }
  void backward_input_far() { split(far_); }
  /// Weight gradients of the backward that has waited longest for them.
  void weight() {
    steps_.push_back({deferred_.front()});
    deferred_.pop();
  }
  void forward_near_beside_backward_far() { pair(near_, far_); }
  void forward_far_beside_backward_near() { pair(far_, near_); }

  std::vector<Step> take() { return std::move(steps_); }

 private:
  struct Lane {
    explicit Lane(int d) : direction(d) {}
    int direction;
    int forwards = 0;   ///< next micro-batch to run forward
    int backwards = 0;  ///< next micro-batch to run backward
  };

  static ChunkPass next(Pass pass, Lane& lane) {
    int& counter = pass == Pass::kForward ? lane.forwards : lane.backwards;
    return {pass, lane.direction, counter++};
  }
  void single(Pass pass, Lane& lane) { steps_.push_back({next(pass, lane)}); }
  void split(Lane& lane) {
    const ChunkPass input = next(Pass::kBackwardInput, lane);
    steps_.push_back({input});
    deferred_.push({Pass::kBackwardWeight, input.lane, input.microbatch});
  }
  void pair(Lane& forward, Lane& backward) {
    steps_.push_back({next(Pass::kForward, forward), next(Pass::kBackward, backward), true});
  }

  Lane near_;
  Lane far_;
  std::queue<ChunkPass> deferred_;
  std::vector<Step> steps_;
};

/// @param n  micro-batches per direction
std::vector<Step> rank_steps(int rank, int ranks, int n) {
  const int half = ranks / 2;
  const int h = std::min(rank, ranks - 1 - rank);  // distance from the nearer end
  const bool middle = h == half - 1;
  RankWriter write(rank < half ? 0 : 1);
  const auto repeat = [](int count, auto&& body) {
    for (int i = 0; i < count; ++i) body(i);
  };

  // Step 1: nF0
  repeat(2 * (half - h - 1), [&](int) { write.forward_near(); });
  // Step 2: nF0F1
  repeat(h + 1, [&](int) {
    write.forward_near();
    write.forward_far();
  });
  // Step 3: nB1W1F1, the backward split so that its input gradient leaves early
  repeat(half - h - 1, [&](int) {
    write.backward_input_far();
    write.weight();
    write.forward_far();
  });
  // Step 4, the main one: nF0B1F1B0
  repeat(n - ranks + h + 1, [&](int i) {
    if (i == 0 && middle) {
      // The partner in the middle does the mirror image, so each waits for the other's forward:
      // overlapping the first pair would lock both.
      write.forward_near();
      write.backward_far();
    } else {
      write.forward_near_beside_backward_far();
    }
    write.forward_far_beside_backward_near();
  });
  // Step 5: nB1F1B0
  repeat(half - h - 1, [&](int) {
    write.backward_far();
    write.forward_far_beside_backward_near();
  });
  // Step 6: nB1B0, the second half of the 2(h+1) backwards split
  repeat(2 * (h + 1), [&](int i) {
    const bool split = i >= h + 1;
    if (i % 2 == 0) {
      split ? write.backward_input_far() : write.backward_far();
    } else {
      split ? write.backward_input_near() : write.backward_near();
    }
  });
  // Step 7: nWB0
  repeat(half - h - 1, [&](int) {
    write.weight();
    write.backward_input_near();
  });
  // Step 8: nW
  repeat(h + 1, [&](int) { write.weight(); });
  return write.take();
}

/// DualPipe: micro-batches enter at both ends of the pipeline and every rank holds a stage of each
/// direction; forwards and backwards of opposite directions run mutually overlapped. Source:
/// DeepSeek-V3 Technical Report (arXiv 2412.19437), section 3.2.1; step counts of
/// deepseek-ai/DualPipe, dualpipe/dualpipe.py.
Schedule make_dualpipe(const PipelineShape& shape) {
  const bool possible = shape.ranks >= 2 && shape.ranks % 2 == 0 && shape.microbatches % 2 == 0 &&
                        shape.microbatches >= 2 * shape.ranks;
  require<ImpossiblePlan>(possible,
                          "dualpipe: {} micro-batches on {} ranks; it needs an even number of "
                          "ranks and an even number of micro-batches, at least 2 x ranks = {}",
                          shape.microbatches, shape.ranks, 2 * shape.ranks);
  const int per_direction = shape.microbatches / 2;
  Schedule out;
  out.microbatches = {per_direction, per_direction};
  out.stage_of = stages_both_ways(shape.ranks);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    out.ranks.push_back(rank_steps(rank, shape.ranks, per_direction));
  }
  return out;
}

// Table 2 of the report. It is the bubble of the ranks that idle most, when F, Bi and W are equal.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.overlapped + d.backward - d.backward_weight * 3) * (shape.ranks / 2 - 1);
}

const Register<ScheduleKind> kEntry{
    "dualpipe",
    {.make = make_dualpipe,
     .bubble = {"(p/2-1)(F&B+B-3W)", bubble},
     .description = "two directions, forward and backward overlapped; even ranks p, even "
                    "micro-batches >= 2p"}};

}  // namespace
}  // namespace pipecast
