/// Completes a transfer plan, flow by flow or collective by collective.
#pragma once

#include <cstdint>

#include "sim/network/transfer_plan.hpp"

namespace pipecast {

enum class NetworkMode : std::uint8_t {
  kFlow,    ///< every flow by itself: max-min fair shares of links
  kCoflow,  ///< every group is one job: max-min fair rates of progress
};

/// Who competes for a link in coflow mode: a pipeline send beside an all-to-all with seven flows
/// on the port gets 1/8 of it by flow and 1/2 by job.
enum class Arbitration : std::uint8_t { kFlow, kJob };

struct TransferOptions {
  NetworkMode mode = NetworkMode::kFlow;
  Arbitration arbitration = Arbitration::kFlow;
};

/// @throws Error for a plan that contradicts itself (an index out of range, a negative time),
///         ImpossiblePlan for one that cannot complete (flows that wait for each other, a failed
///         link); both name the culprit
Completion complete_transfers(const TransferPlan& plan, const TransferOptions& options = {});

}  // namespace pipecast
