#include <optional>

#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

/// What a rank runs, one pass a slot of time, were F and B equally long.
class Slots {
 public:
  explicit Slots(int count) : passes_(static_cast<std::size_t>(count)) {}

  void put(int when, const ChunkPass& pass) { passes_[static_cast<std::size_t>(when)] = pass; }
  [[nodiscard]] std::vector<Step> in_order() const {
    std::vector<Step> out;
    out.reserve(passes_.size());
    for (const auto& pass : passes_) {
      if (pass) out.push_back({*pass});
    }
    return out;
  }

 private:
  std::vector<std::optional<ChunkPass>> passes_;
};

/// Of each direction's n micro-batches p/2 make a basic unit, and units follow each other every 2p
/// slots. In a unit stage s runs its i-th forward in slot s + 2i and its i-th backward in slot 2p -
/// 1 - s + 2i. No slot is taken twice: p is even, so a direction's forwards share parity only with
/// the backwards of the other, which begin when they have ended and end before those of the next
/// unit begin.
/// @param n  micro-batches per direction
std::vector<Step> rank_steps(int rank, int ranks, int n) {
  const int per_unit = ranks / 2;
  const int units = (n + per_unit - 1) / per_unit;
  Slots slots(2 * ranks * units + ranks);
  for (const int direction : {0, 1}) {
    const int stage = direction == 0 ? rank : ranks - 1 - rank;
    for (int i = 0; i < n; ++i) {
      const int start = 2 * ranks * (i / per_unit) + 2 * (i % per_unit);
      slots.put(start + stage, {Pass::kForward, direction, i});
      slots.put(start + 2 * ranks - 1 - stage, {Pass::kBackward, direction, i});
    }
  }
  return slots.in_order();
}

/// Chimera: micro-batches enter at both ends of the pipeline and every rank holds a stage of each
/// direction; each direction's backwards fill what the other's leave idle. p micro-batches are a
/// basic unit; more are units one after the other (direct concatenation), the next one's first
/// forwards in the bubbles of the one before. With u micro-batches of each direction in a unit rank
/// r stashes at most min(u, p-r) + min(u, r+1): of full units p/2+1 at the ends, p in the middle.
/// Source: Li & Hoefler 2021 (arXiv 2107.06925), section 3.1, and table 2. Not modelled: forward
/// doubling and backward halving, which avoid the bubbles between units where B is longer than F.
Schedule make_chimera(const PipelineShape& shape) {
  const bool enough = shape.ranks >= 2 && shape.ranks % 2 == 0 && shape.microbatches >= 2 &&
                      shape.microbatches % 2 == 0;
  require<ImpossiblePlan>(
      enough && (shape.microbatches <= shape.ranks || shape.microbatches % shape.ranks == 0),
      "chimera: {} micro-batches on {} ranks; it needs an even number of ranks and an even number "
      "of micro-batches, at most as many as ranks or a multiple of them",
      shape.microbatches, shape.ranks);
  const int per_direction = shape.microbatches / 2;
  Schedule out;
  out.microbatches = {per_direction, per_direction};
  out.stage_of = stages_both_ways(shape.ranks);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    out.ranks.push_back(rank_steps(rank, shape.ranks, per_direction));
  }
  return out;
}

// Published for F = B, where it is exact from p micro-batches on. In general, of u = min(N, p)
// micro-batches in a unit and K units, every rank idles
//   (p-u)(F+B) + (u-2)max(F, B) + (K-1)(p-2)|F-B|:
// the first unit's corners, and the bubbles that stay between units. At N = p and B = 2F that is
// the share (p-2)/(3N/2+p-2) of the makespan that the paper gives.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward) * (shape.ranks / 2 - 1);
}

const Register<ScheduleKind> kEntry{
    "chimera",
    {.make = make_chimera,
     .bubble = {"(p/2-1)(F+B)", bubble},
     .description = "two directions; even ranks p, even micro-batches <= p or a multiple of p"}};

}  // namespace
}  // namespace pipecast
