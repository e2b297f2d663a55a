/// A pipeline schedule is data: for every pipeline rank the order of its passes. The cluster plays
/// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.hpp"

namespace pipecast {

enum class Pass : std::uint8_t {
  kForward,
  kBackward,  ///< input and weight gradients
  kBackwardInput,
  kBackwardWeight,
};

/// One pass of one micro-batch through the stage that `direction` names on this rank.
struct ChunkPass {
  Pass pass{};
  int direction =
      0;  ///< 0 or 1 for bidirectional kinds, the local chunk for kinds with virtual stages
  int microbatch = 0;  ///< counted per direction for bidirectional kinds
  bool operator==(const ChunkPass&) const = default;
};

/// One entry of a rank's list: a pass, or a forward and a backward that run mutually overlapped.
struct Step {
  ChunkPass first;
  ChunkPass second{};  ///< only if overlapped: the backward beside the forward `first`
  bool overlapped = false;
  bool operator==(const Step&) const = default;
};

struct PipelineShape {
  int ranks = 0;
  int microbatches = 0;  ///< per step and data-parallel rank, both directions together
};

struct Schedule {
  std::vector<std::vector<Step>> ranks;  ///< [rank][position]
  std::vector<std::vector<int>>
      stage_of;                   ///< [direction][rank]: the stage that the rank holds for it
  std::vector<int> microbatches;  ///< [direction]
};

/// What a schedule's file registers.
struct ScheduleKind {
  /// @throws ImpossiblePlan that says what the shape would need
  Schedule (*make)(const PipelineShape&) = nullptr;
  /// Bubble of the published formula, as text, e.g. "(p-1)(F+B)".
  std::string_view bubble_formula;
  std::string_view description;  ///< one line for `pipecast list schedules`
};

/// "F0.3", "Bi1.0", "F0.3&B1.1": the tokens of the text format.
std::string to_text(const Step& step);

}  // namespace pipecast
