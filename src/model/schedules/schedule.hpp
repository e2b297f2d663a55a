/// A pipeline schedule is data: for every pipeline rank the order of its passes. The cluster plays
/// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.hpp"
#include "model/schedules/costs.hpp"

namespace pipecast {

enum class Pass : std::uint8_t {
  kForward,
  kBackward,  ///< input and weight gradients
  kBackwardInput,
  kBackwardWeight,
};

/// One pass of one micro-batch through the stage that `lane` names on this rank.
struct ChunkPass {
  Pass pass{};
  int lane = 0;        ///< d of the text form: a direction, or a local chunk (virtual stage)
  int microbatch = 0;  ///< counted within its path
  bool operator==(const ChunkPass&) const = default;
};

/// One entry of a rank's list: a pass, or a forward and a backward that run mutually overlapped.
struct Step {
  ChunkPass first;
  ChunkPass second{};  ///< only if overlapped: the backward beside the forward `first`
  bool overlapped = false;
  bool operator==(const Step&) const = default;
};

/// Stages by lane and rank.
using StageMap = std::vector<std::vector<int>>;

/// A rank holds one stage per lane. What a micro-batch passes from the first stage to the last is
/// its path. Either all lanes together are one path over lanes x ranks stages (virtual stages), or
/// every lane is a path of its own over as many stages as ranks (bidirectional kinds, which hold
/// every stage once per path).
struct Schedule {
  std::vector<std::vector<Step>> ranks;  ///< [rank][position]
  StageMap stage_of;                     ///< [lane][rank]: the stage that the rank holds as lane
  std::vector<int> microbatches;         ///< [path]; one entry if all lanes are one path

  [[nodiscard]] int lanes() const { return static_cast<int>(stage_of.size()); }
  [[nodiscard]] int paths() const { return static_cast<int>(microbatches.size()); }
  [[nodiscard]] int path_of(int lane) const { return paths() == 1 ? 0 : lane; }
  /// Of all paths.
  [[nodiscard]] int all_microbatches() const {
    int out = 0;
    for (const int n : microbatches) out += n;
    return out;
  }
  /// Of one path.
  [[nodiscard]] int stages() const {
    return static_cast<int>(ranks.size()) * (paths() == 1 ? lanes() : 1);
  }
};

/// One lane: stage s on rank s.
StageMap stages_in_line(int ranks);
/// One path that visits all ranks `lanes` times in a row: stage lane x ranks + rank.
StageMap stages_looped(int ranks, int lanes);
/// One path down the ranks and back: the first rank holds the first and the last stage.
StageMap stages_in_v(int ranks);
/// Two paths: one down the ranks, one up.
StageMap stages_both_ways(int ranks);

struct StageHolder {
  int rank = 0;
  int lane = 0;
};
/// Where the stages of every path are, [path][stage]: the inverse of Schedule::stage_of.
std::vector<std::vector<StageHolder>> holders_of_stages(const Schedule& schedule);

/// Whether it trains: a schedule without any backward is one of forwards only.
bool has_backward(const Schedule& schedule);

/// What a generator is asked for.
struct PipelineShape {
  int ranks = 0;
  int microbatches = 0;      ///< per step and data-parallel rank, all paths together
  int virtual_stages = 0;    ///< stages of a path on one rank; 0: the kind's own number
  ScheduleCosts costs{};     ///< what a kind that searches works with; the others do not look
  int activation_limit = 0;  ///< most live chunks on a rank, for a kind that searches; 0: its own
};

/// The idle time of a rank as published for the kind, where its assumptions hold (uniform stages,
/// free transfers, enough micro-batches).
struct BubbleFormula {
  std::string_view text;  ///< e.g. "(p-1)(F+B)"; F, B, Bi, W are of one chunk
  Duration (*value)(const PipelineShape&, const PassDurations&) = nullptr;  ///< none published
};

/// What a schedule's file registers.
struct ScheduleKind {
  /// @throws ImpossiblePlan that says what the shape would need
  Schedule (*make)(const PipelineShape&) = nullptr;
  BubbleFormula bubble{};
  std::string_view description{};     ///< one line for `pipecast list schedules`
  int virtual_stages = 1;             ///< stages of a path on one rank
  bool takes_virtual_stages = false;  ///< whether a shape may ask for another number of them
  bool searches = false;  ///< whether it works with a shape's costs and activation limit

  /// @throws ImpossiblePlan if the shape asks for a number that the kind does not have
  [[nodiscard]] int stages_per_rank(const PipelineShape& shape) const;
};

/// "F0.3", "Bi1.0", "F0.3&B1.1": the tokens of the text format.
std::string to_text(const Step& step);

}  // namespace pipecast
