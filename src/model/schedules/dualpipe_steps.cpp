#include "model/schedules/dualpipe_steps.hpp"

#include <queue>

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

}  // namespace

std::vector<Step> dualpipe_steps(const DualPipePlace& place) {
  const int inner = place.half - 1 - place.from_end;  // distance from the middle
  const int outer = place.from_end + 1;
  RankWriter write(place.near_lane);
  const auto repeat = [](int count, auto&& body) {
    for (int i = 0; i < count; ++i) body(i);
  };

  // Step 1: nF0
  repeat(2 * inner, [&](int) { write.forward_near(); });
  // Step 2: nF0F1
  repeat(outer, [&](int) {
    write.forward_near();
    write.forward_far();
  });
  // Step 3: nB1W1F1, the backward split so that its input gradient leaves early
  repeat(inner, [&](int) {
    write.backward_input_far();
    write.weight();
    write.forward_far();
  });
  // Step 4, the main one: nF0B1F1B0
  repeat(place.microbatches - 2 * place.half + outer, [&](int i) {
    if (i == 0 && inner == 0) {
      // The ranks outside wait for the middle's first backward, which a forward beside it would
      // hold up.
      write.forward_near();
      write.backward_far();
    } else {
      write.forward_near_beside_backward_far();
    }
    write.forward_far_beside_backward_near();
  });
  // Step 5: nB1F1B0
  repeat(inner, [&](int) {
    write.backward_far();
    write.forward_far_beside_backward_near();
  });
  // Step 6: nB1B0, the second half of the backwards split
  repeat(2 * outer, [&](int i) {
    const bool split = i >= outer;
    if (i % 2 == 0) {
      split ? write.backward_input_far() : write.backward_far();
    } else {
      split ? write.backward_input_near() : write.backward_near();
    }
  });
  // Step 7: nWB0
  repeat(inner, [&](int) {
    write.weight();
    write.backward_input_near();
  });
  // Step 8: nW
  repeat(outer, [&](int) { write.weight(); });
  return write.take();
}

}  // namespace pipecast
