/// Collectives of gradients and weights among the GPUs that hold the same parameters.
#pragma once

#include <string_view>

#include "model/arithmetic/parameters.hpp"
#include "sim/network/placement.hpp"

namespace pipecast {

/// A reduce-scatter, or an all-gather, as one GPU of its groups sees it.
struct ParameterCollective {
  Duration time;
  Bytes nic;     ///< sent by one GPU
  Bytes nvlink;  ///< sent by one GPU
  std::string_view resource = "nvlink";
};

/// Replicated parameters go over every replica on every holder, experts over the replicas of the
/// same expert.
/// @param held     parameters that one GPU of the groups holds, or would without shards
/// @param holders  pipeline ranks that hold the same stages
/// Not modelled: the two groups at once, they share the NIC one after the other.
ParameterCollective parameter_collective(const Scenario& scenario, const PlanSpec& plan,
                                         const Placement& placement, const HeldParameters& held,
                                         int holders, Precision precision);

}  // namespace pipecast
