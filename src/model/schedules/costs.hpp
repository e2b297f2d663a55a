/// What the passes and transfers of a schedule take when it is timed by itself.
#pragma once

#include <cstddef>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// How long a pass of each kind takes. In the text formats a tick is a picosecond.
struct PassDurations {
  Duration forward{};
  Duration backward{};         ///< both gradients
  Duration backward_input{};   ///< gradient of the input alone
  Duration backward_weight{};  ///< gradient of the weights alone
  Duration overlapped{};       ///< a forward and a backward beside each other
  bool operator==(const PassDurations&) const = default;
};

struct ScheduleCosts {
  /// One entry for all, one per stage, or one per stage and micro-batch: [stage][micro-batch
  /// counted over all paths]. A pair takes the mean of its halves' `overlapped`, rounded up.
  std::vector<PassDurations> passes{};
  /// From the end of a transfer's time on its link until the result can be used.
  Duration transfer_latency{};
  /// For which a result occupies the link from its rank to the next: bytes over bandwidth. The
  /// link from one rank to another carries one result after the other.
  Duration transfer_time{};
};

}  // namespace pipecast
