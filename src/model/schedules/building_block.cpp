#include "model/schedules/building_block.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <queue>

#include "base/assert.hpp"
#include "base/error.hpp"

namespace pipecast {
namespace {

/// What a micro-batch runs on every rank of its path, in this order: F0, F1, Bi1, Bi0.
constexpr std::size_t kPasses = 4;
constexpr std::array<Pass, kPasses> kPass{Pass::kForward, Pass::kForward, Pass::kBackwardInput,
                                          Pass::kBackwardInput};
constexpr std::array<int, kPasses> kLane{0, 1, 1, 0};
/// These and two weight gradients are the work of a micro-batch on a rank.
constexpr int kInterval = 6;

using PassCounts = std::array<int, kPasses>;

constexpr int kNowhere = std::numeric_limits<int>::max();

/// Places of micro-batch 0 in the plan of a rank.
PassCounts planned_places(const BuildingBlock& block, int rank, int ranks) {
  const int above = rank;
  const int below = ranks - 1 - rank;
  const int all = ranks - 1;
  const int first_up = block.forward_down * all + block.forward_turn;
  const int first_back = first_up + block.forward_up * all + block.loss_turn;
  const int first_back_up = first_back + block.backward_down * all + block.backward_turn;
  return {block.forward_down * above, first_up + block.forward_up * below,
          first_back + block.backward_down * above, first_back_up + block.backward_up * below};
}

bool all_apart(PassCounts places) {
  for (int& place : places) place %= kInterval;
  std::sort(places.begin(), places.end());
  return std::adjacent_find(places.begin(), places.end()) == places.end();
}

struct Rank {
  PassCounts place{};  // of the next of each pass in the plan; kNowhere if there is none
  PassCounts run{};    // how many of each pass it has run
  int most_ahead = 0;  // forwards of lane 0 alive at once, at most
  int kept = 0;        // chunks between their F and their W
  std::queue<ChunkPass> weights{};
  std::vector<Step> steps{};
};

/// All ranks pass by pass. A pass that is run can be used from the next round on.
class Squeezer {
 public:
  Squeezer(const BuildingBlock& block, const PipelineShape& shape, int most_kept)
      : microbatches_(shape.microbatches), most_kept_(most_kept) {
    for (int i = 0; i < shape.ranks; ++i) {
      Rank& rank = ranks_.emplace_back();
      rank.place = planned_places(block, i, shape.ranks);
      PIPECAST_ASSERT(all_apart(rank.place));
      const int alive = rank.place[3] + 1 - rank.place[0];
      rank.most_ahead = static_cast<int>(ceil_div(alive, kInterval));
      rank.steps.reserve(steps_of_rank());
    }
  }

  std::vector<std::vector<Step>> run() {
    for (bool more = true; more;) {
      before_.clear();
      for (const Rank& rank : ranks_) before_.push_back(rank.run);
      bool moved = false;
      more = false;
      for (std::size_t i = 0; i < ranks_.size(); ++i) {
        moved = advance(i) || moved;
        more = more || ranks_[i].steps.size() < steps_of_rank();
      }
      PIPECAST_ASSERT(moved);
    }
    std::vector<std::vector<Step>> out;
    for (Rank& rank : ranks_) out.push_back(std::move(rank.steps));
    return out;
  }

 private:
  [[nodiscard]] std::size_t steps_of_rank() const {
    return static_cast<std::size_t>(kInterval) * static_cast<std::size_t>(microbatches_);
  }

  /// Whether what the next such pass of the rank needs was there when the round began.
  [[nodiscard]] bool has_input(std::size_t rank, std::size_t pass) const {
    const int next = before_[rank][pass];
    if (next == microbatches_) return false;
    const bool down = pass % 2 == 0;
    const bool turns = down ? rank == 0 : rank + 1 == ranks_.size();
    if (!turns) return before_[down ? rank - 1 : rank + 1][pass] > next;
    return pass == 0 || before_[rank][pass - 1] > next;
  }

  /// @return whether the rank ran something
  bool advance(std::size_t index) {
    Rank& rank = ranks_[index];
    const bool room = rank.kept < most_kept_;
    const auto possible = [&](std::size_t pass) {
      return has_input(index, pass) && (room || kPass[pass] != Pass::kForward);
    };
    const auto next = static_cast<std::size_t>(
        std::min_element(rank.place.begin(), rank.place.end()) - rank.place.begin());
    if (possible(next)) {
      run(rank, next);
    } else if (possible(0) && rank.run[0] - rank.run[3] < rank.most_ahead) {
      run(rank, 0);
    } else if (!rank.weights.empty()) {
      rank.steps.push_back({rank.weights.front()});
      rank.weights.pop();
      --rank.kept;
    } else {
      return false;
    }
    return true;
  }

  void run(Rank& rank, std::size_t pass) const {
    const ChunkPass step{kPass[pass], kLane[pass], rank.run[pass]++};
    rank.place[pass] = rank.run[pass] == microbatches_ ? kNowhere : rank.place[pass] + kInterval;
    rank.steps.push_back({step});
    if (step.pass == Pass::kForward) {
      ++rank.kept;
    } else {
      rank.weights.push({Pass::kBackwardWeight, step.lane, step.microbatch});
    }
  }

  int microbatches_;
  int most_kept_;
  std::vector<Rank> ranks_;
  std::vector<PassCounts> before_;  // [rank]: what was run when the round began
};

}  // namespace

Schedule squeeze(const BuildingBlock& block, const PipelineShape& shape, int most_kept) {
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_in_v(shape.ranks);
  out.ranks = Squeezer(block, shape, most_kept).run();
  return out;
}

void require_v_shape(std::string_view kind, const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "{}: {} micro-batches on {} ranks; it needs at least one of each", kind,
                          shape.microbatches, shape.ranks);
  require<ImpossiblePlan>(shape.virtual_stages == 0 || shape.virtual_stages == 2,
                          "{}: {} virtual stages on a rank; it needs 2, one on the way down the "
                          "ranks and one on the way back",
                          kind, shape.virtual_stages);
}

}  // namespace pipecast
