/// What transfers reach of the links, and how long a message is under way.
#pragma once

#include "model/specs/calibration.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

/// Bandwidth per GPU and direction that large transfers reach.
Bandwidth reached_nvlink(const ClusterSpec& cluster, const CalibrationSpec& calibration);
Bandwidth reached_nic(const ClusterSpec& cluster, const CalibrationSpec& calibration);

/// Where the two ends of a message are; the far end of the fabric unless said.
struct Distance {
  bool same_node = false;
  bool same_leaf = false;
  bool same_pod = false;  ///< a whole plane of a two-layer tree is one pod
};

/// Latency of a message without its transfer time.
Duration hop_latency(const Distance& distance, const ClusterSpec& cluster);

/// Transfer time of a message alone on its links, without latency.
Duration transfer_time(Bytes size, const Distance& distance, const ClusterSpec& cluster,
                       const CalibrationSpec& calibration);

}  // namespace pipecast
