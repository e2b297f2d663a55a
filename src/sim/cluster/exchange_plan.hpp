/// How uneven routing stretches the exchanges of an expert-parallel group.
#pragma once

#include <array>

#include "model/collectives/all_to_all.hpp"
#include "model/routing/router.hpp"
#include "model/specs/phase.hpp"
#include "model/specs/scenario.hpp"
#include "sim/gpu/load_curve.hpp"

namespace pipecast {

/// The exchanges of a layer that differ in cost: the forward's dispatch, the backward's, both
/// combines.
inline constexpr std::size_t kExchangeKinds = 3;
constexpr std::size_t exchange_kind(Phase phase) {
  if (phase == Phase::kDispatchForward) return 0;
  return phase == Phase::kCombineBackward ? 1 : 2;
}

/// Loads of the busiest GPU of a group over what balanced routing gives every GPU.
struct BusiestShares {
  double nic = 1;     ///< through its NIC, in either direction
  double copies = 1;  ///< tokens over its NVLink port and through its SMs
};

/// @param even  the same group with balanced routing
BusiestShares busiest_shares(const GroupLoad& load, const GroupLoad& even);

/// An exchange of one kind with balanced routing, beside computation.
struct PlannedExchange {
  PortLoad load;      ///< with more bytes through the NIC where the fabric slows it down
  double slower = 1;  ///< times that SMs take longer because others compute
  Duration time{};    ///< without that
  Duration nic{};     ///< what a NIC port needs
};

/// @param fabric_slowdown  times that the NICs' part takes longer for want of ways
PlannedExchange plan_exchange(std::size_t kind, const Scenario& scenario, const PlanSpec& plan,
                              const RoutingStatistics& routing, double fabric_slowdown = 1);

/// Times that the exchange takes longer when its busiest GPU has these shares: the group is done
/// when its slowest port and its slowest GPU are.
double stretch_of(const PlannedExchange& exchange, const BusiestShares& shares,
                  const Scenario& scenario, const PlanSpec& plan);

/// How uneven the loads were, means over layers and micro-batches.
struct LoadMeans {
  double expert_max_over_mean = 1;
  double gpu_max_over_mean = 1;
  double nodes_per_token = 0;
};

/// What a group waits for in a layer, means over layers and micro-batches.
struct BusiestLoad {
  TaskLoad alone;  ///< of the GPU with the most rows, where one micro-batch is in a chunk
  /// Of the GPU with the most work in a layer of a pair, whose passes have loads of their own.
  TaskLoad forward;
  TaskLoad backward;
  std::array<double, kExchangeKinds> stretch = {1, 1, 1};  ///< of its exchanges
  double nic = 1;                                          ///< as BusiestShares
  LoadMeans statistics{};
};

}  // namespace pipecast
