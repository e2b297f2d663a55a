/// What is to be moved over which links, and when it has arrived: plain data, the same for both
/// modes of the network engine (see transfers.hpp).
///
/// Times are seconds in double precision, not picoseconds: cases are compared to 1e-6 of completion
/// times that may be as short as 20 ps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// Position of a link, flow or group in its list of the plan.
using LinkIndex = std::uint32_t;
using FlowIndex = std::uint32_t;
using GroupIndex = std::uint32_t;

/// One direction of a cable or port. A bandwidth of 0 is a failed link.
struct Link {
  std::string id;
  Bandwidth bandwidth{};
};

/// Bytes that cross all of some links at once. It takes bandwidth from `latency_s` after the later
/// of `start_s` and the completion of the last flow in `after`; a flow of 0 bytes completes then.
struct Flow {
  std::string id;
  std::vector<LinkIndex> links{};  ///< each once; none only for a flow of 0 bytes
  Bytes bytes{};
  double start_s = 0;
  double latency_s = 0;
  std::vector<FlowIndex> after{};
  std::optional<GroupIndex> group{};
  double weight = 1;  ///< share of a link beside other flows, > 0
};

/// Flows that make up one collective. The coflow mode moves a group as one job.
struct FlowGroup {
  std::string id;
};

struct TransferPlan {
  std::vector<Link> links;
  std::vector<Flow> flows;
  std::vector<FlowGroup> groups;
};

/// What a link carried.
struct LinkTraffic {
  Bytes bytes{};
  double busy_fraction = 0;  ///< of what it could have carried from 0 to the makespan
};

/// When everything had arrived; lists in the order of the plan's.
struct Completion {
  std::vector<double> flow_s;
  std::vector<double> group_s;  ///< of the last flow of each group; 0 for a group without flows
  double makespan_s = 0;
  std::vector<LinkTraffic> links;
};

}  // namespace pipecast
