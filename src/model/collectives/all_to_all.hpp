/// Time of the all-to-alls of expert parallelism from the load of the busiest port.
#pragma once

#include <span>

#include "model/collectives/links.hpp"
#include "model/operations/exchange_shapes.hpp"
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

/// The same for a group whose tokens draw their experts evenly from the nodes that they may use.
/// @throws Error as even_exchange
PortLoad even_port_load(Exchange kind, const ExchangeGroup& group, Precision precision);

/// What one GPU of a group moves in a dispatch, in copies of tokens; of a combine too, which sends
/// the same the other way. A token goes to a node once, to the GPU of its sender's index there,
/// which forwards it to the GPUs that have its experts.
struct GpuCopies {
  double nodes_out = 0;   ///< of its own tokens to other nodes, through its NIC
  double nodes_in = 0;    ///< from other nodes
  double nodes_kept = 0;  ///< of its own tokens to its own node; 0 if the group is one node
  double gpus_out = 0;    ///< that it forwards to other GPUs of its node, its own tokens' included
  double gpus_in = 0;     ///< that other GPUs of its node forward to it
  double gpus_kept = 0;   ///< that it forwards to itself
};

/// Largest loads of any GPU in one exchange of a group, each by itself: different GPUs may have
/// them.
struct ExchangeLoads {
  Exchange kind{};
  double tokens = 0;  ///< that every GPU has: equally many, however unequal the copies
  Bytes copy{};       ///< payload of one copy, scales included
  Bytes nic_out{};
  Bytes nic_in{};
  Bytes nvlink_out{};
  Bytes nvlink_in{};
  double copies_sent = 0;  ///< to GPUs, itself included
  double copies_received = 0;
  double node_copies_sent = 0;  ///< to nodes, its own included; 0 if the group is one node
  double node_copies_received = 0;
};

/// The loads of a group in which every GPU carries the same.
ExchangeLoads equal_loads(const PortLoad& load);

/// The largest of every load over the GPUs of a group.
/// @param tokens      tokens of each GPU
/// @param copy_bytes  payload of one copy of a token, scales included
ExchangeLoads busiest_loads(std::span<const GpuCopies> gpus, Exchange kind, double tokens,
                            Bytes copy_bytes);

/// What paces an all-to-all.
enum class TransferBound { kNic, kNvlink, kIssue };

struct TransferCost {
  Duration time;
  TransferBound bound{};
};

/// One dispatch or combine alone, from the moment when all of its GPUs are ready until the last has
/// what it gets: the slowest of every NIC and NVLink port in each direction and of every GPU's
/// communication SMs, plus the kernel's start, the filling of its queues and the latency of the
/// hops. Half of the SMs send, half receive (model/ops/exchange.hpp): the side with more to do
/// counts. The largest port load is exact to 0.6 % against flow simulation for node-limited
/// routing, uniform or Zipf, on a non-blocking fabric (network.md of the design, measured with
/// SimGrid 3.32).
/// @param sms     SMs of the kernel; 0 stands for an engine that needs none and has no issue limit
/// @param slower  times that its SMs take longer than alone, because others compute
/// Not modelled: static ECMP collisions; that two largest loads of SMs (copies, copies to nodes)
/// may lie on different GPUs.
TransferCost all_to_all_time(const ExchangeLoads& loads, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower = 1);

/// The same where every GPU carries the same.
TransferCost all_to_all_time(const PortLoad& load, const ClusterSpec& cluster,
                             const CalibrationSpec& calibration, int sms, double slower = 1);

}  // namespace pipecast
