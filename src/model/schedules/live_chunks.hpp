/// How many chunks a rank keeps activations of while it works through its schedule.
#pragma once

#include <vector>

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

struct LaneChunks {
  int live = 0;  ///< from the start of F to the end of B or Bi; of F in a forward-only schedule
  int deferred_weights = 0;  ///< from the end of Bi to the end of W
};

/// Follows the steps of one rank.
class LiveChunks {
 public:
  /// @param forward_only  whether the whole schedule has no backward
  LiveChunks(int lanes, bool forward_only)
      : lanes_(static_cast<std::size_t>(lanes)), forward_only_(forward_only) {}

  /// Both halves of a pair count while it runs.
  void start(const Step& step);
  void finish(const Step& step);
  [[nodiscard]] const std::vector<LaneChunks>& lanes() const { return lanes_; }
  /// Over all lanes.
  [[nodiscard]] int live() const { return live_; }

 private:
  void finish(const ChunkPass& pass);

  std::vector<LaneChunks> lanes_;
  bool forward_only_;
  int live_ = 0;
};

/// Most chunks alive at once, [rank].
std::vector<int> peak_live_activations(const Schedule& schedule);

/// What one micro-batch makes a stage keep.
struct StageBytes {
  Bytes activations;      ///< while its chunk lives
  Bytes weight_operands;  ///< from Bi to W: what the weight gradient still needs
};

/// Most bytes kept at once, [rank].
/// @param stages  one entry for all stages, or one per stage
std::vector<Bytes> peak_live_bytes(const Schedule& schedule, const std::vector<StageBytes>& stages);

}  // namespace pipecast
