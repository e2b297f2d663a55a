/// Time of the all-to-alls of expert parallelism from the load of the busiest port.
#pragma once

#include "model/collectives/links.hpp"
#include "model/operations/operation.hpp"
#include "model/routing/balanced.hpp"
#include "model/specs/calibration.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

/// Bytes of one dispatch or combine through the ports of one GPU. With balanced routing sends equal
/// receives and every GPU carries the same.
struct PortLoad {
  Bytes
      nic;  ///< one copy per token and remote destination node, to the GPU of the same index there
  Bytes nvlink;  ///< one copy per token and destination GPU other than the forwarding one
  ExchangeShape exchange{};  ///< what the SMs have to move; none: the links are all that counts
};

/// @param tokens      tokens that each GPU of the group sends
/// @param copy_bytes  payload of one copy of a token, scales included
PortLoad balanced_port_load(const RoutingStatistics& routing, std::int64_t tokens, Bytes copy_bytes,
                            int ep, int gpus_per_node, Exchange kind);

/// What paces an all-to-all.
enum class TransferBound { kNic, kNvlink, kIssue };

struct TransferCost {
  Duration time;
  TransferBound bound{};
};

/// One dispatch or combine alone: the slowest of NIC, NVLink and the communication SMs
/// (model/ops/exchange.hpp), plus the kernel's start and the latency of the hops. Exact to 0.6 %
/// against flow simulation for node-limited routing on a non-blocking fabric (network.md of the
/// design, measured with SimGrid 3.32).
/// @param sms     SMs of the kernel; 0 stands for an engine that needs none and has no issue limit
/// @param slower  times that its SMs take longer than alone, because others compute
/// Not modelled: chunked forwarding between the two levels, static ECMP collisions, unequal
/// ports.
TransferCost all_to_all_time(const PortLoad& load, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower = 1);

}  // namespace pipecast
