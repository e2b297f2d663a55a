/// Memory of every pipeline rank over a simulated step: what is allocated and freed when, the
/// moment at which most is held, and what that consists of.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "model/memory/layer_memory.hpp"
#include "model/memory/persistent_memory.hpp"
#include "sim/cluster/step_simulation.hpp"

namespace pipecast {

/// Rows at a GPU's experts over the balanced number, of the GPU of each pipeline rank that has most
/// in all layers and micro-batches together, [pipeline rank][layer with an exchange][micro-batch].
/// A step's further micro-batches repeat them. Empty: balanced.
using RowShares = std::vector<std::vector<std::vector<double>>>;

/// Drawn for the first micro-batches of the step.
/// @param groups        expert-parallel groups of a pipeline rank that are looked at
/// @param microbatches  that are drawn
/// @param for_each      draws the layers; the result does not depend on it
RowShares row_shares(const Router& router, const StepPlan& step, const Schedule& schedule,
                     int groups, int microbatches, const ForEach& for_each = {});

/// The same share of rows in every layer of every rank for every micro-batch.
RowShares uniform_row_shares(double share, const StepPlan& step);

/// One GPU of every pipeline rank through a step.
///
/// Within a chunk memory changes phase by phase, in the order of the chunk by itself, stretched to
/// the time that the chunk took. What a bundle of tensors is and when it comes and goes:
/// model/memory/layer_memory.hpp. Beside it the tensors of the whole step
/// (model/memory/persistent_memory.hpp) and, where the products do not read what is gathered at the
/// step's end, the buffer that it comes to.
/// Shares of rows count in 64ths, so that few different layers are looked at.
/// Not modelled: which of a rank's GPUs is late; memory that the allocator holds but nobody uses.
class StepMemory {
 public:
  struct Peak {
    Time when;
    int step = -1;  ///< position in the schedule; -1: at the step's end
    MemoryTotals totals;
  };
  using Visitor = std::function<void(Time, const MemoryTotals&)>;

  StepMemory() = default;
  StepMemory(StepMemory&&) = default;
  StepMemory& operator=(StepMemory&&) = default;
  /// @param spans  when the steps ran; empty: memory is played without times, all at time 0
  StepMemory(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
             const StepPlan& step, const RowShares& shares, std::vector<RankSpans> spans = {});

  [[nodiscard]] int ranks() const { return static_cast<int>(ranks_.size()); }
  [[nodiscard]] const Peak& peak(int rank) const { return at(rank).peak; }
  /// The rank with the largest peak, of equal ones the first.
  [[nodiscard]] int fullest() const;
  [[nodiscard]] const PersistentMemory& persistent(int rank) const { return at(rank).persistent; }

  /// Everything that is held at the peak, layer by layer; sums to its totals.
  [[nodiscard]] std::vector<MemoryTensor> tensors_at_peak(int rank) const;

  /// Calls visitor(time, bytes) at the beginning and after every change, in the order of time.
  /// What is held at the end is what was held at the beginning: else an assertion breaks.
  void play(int rank, const Visitor& visitor) const;

 private:
  /// A bundle of a layer comes or goes.
  struct Change {
    double when = 0;  // part of the chunk's time
    std::int16_t pass = 0;
    std::int16_t layer = 0;  // position in the pass's stage
    Bundle bundle{};
    bool comes = false;
  };
  struct PlayedChunk {
    int program = 0;
    std::array<int, 2> lanes{};
    std::array<int, 2> microbatches{};
  };
  struct HeldLayer {
    int stage = 0;
    int position = 0;
    std::vector<const LayerMemory*> by_microbatch;  // repeating
  };
  /// After a change of a step; before all of them: -1. Step -1: around the gather at the end.
  struct Moment {
    int step = 0;
    int change = -1;
    bool operator==(const Moment&) const = default;
  };
  struct Rank {
    PersistentMemory persistent;
    MemoryTotals base;
    std::vector<PlayedChunk> chunks;
    std::vector<std::vector<HeldLayer>> lanes;  // [lane][position]
    RankSpans spans;
    Bytes gathered;  // buffer of the gather at the step's end
    Peak peak;
    Moment fullest;
  };
  class Profile;
  class Player;

  [[nodiscard]] const Rank& at(int rank) const { return ranks_.at(static_cast<std::size_t>(rank)); }

  std::vector<std::vector<Change>> profiles_;                // [program]
  std::map<std::pair<LayerKind, int>, LayerMemory> layers_;  // by share of rows in 64ths
  Precision gathered_as_{};
  std::vector<Rank> ranks_;
};

}  // namespace pipecast
