/// What the all-to-alls of a layer carry.
#pragma once

#include "app/forecast/forecast.hpp"
#include "app/routing/load_study.hpp"

namespace pipecast {

/// Bytes of one exchange through one port in one direction, means over layers and micro-batches.
struct PortBytes {
  double mean = 0;     ///< over the GPUs of the group
  double busiest = 0;  ///< of the busiest GPU
};

/// One dispatch or combine of a micro-batch in a layer, beside computation as in a training step.
struct ExchangeVolume {
  PortBytes nic;
  PortBytes nvlink;
  Duration balanced;  ///< time with balanced routing
  Duration time;      ///< mean
};

struct VolumeStudy {
  ExchangeVolume dispatch;
  ExchangeVolume combine;
};

/// @param even  of the plan's group, were its routing balanced
VolumeStudy study_volume(const Scenario& scenario, const PlanSpec& plan,
                         const RoutingStatistics& even, const Router& router,
                         const LoadStudy& loads);

}  // namespace pipecast
