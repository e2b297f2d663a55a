#include "model/collectives/links.hpp"

namespace pipecast {

Bandwidth reached_nvlink(const ClusterSpec& cluster, const CalibrationSpec& calibration) {
  return cluster.nvlink.bandwidth * calibration.link.nvlink.value;
}

Bandwidth reached_nic(const ClusterSpec& cluster, const CalibrationSpec& calibration) {
  return cluster.nic_per_gpu() * calibration.link.nic.value;
}

Duration hop_latency(const Distance& distance, const ClusterSpec& cluster) {
  if (distance.same_node) return cluster.nvlink.latency;
  if (distance.same_leaf) return cluster.nic.latency;
  return cluster.nic.latency +
         (distance.same_pod ? cluster.fabric.spine_latency : cluster.fabric.far_latency());
}

Duration transfer_time(Bytes size, const Distance& distance, const ClusterSpec& cluster,
                       const CalibrationSpec& calibration) {
  return size / (distance.same_node ? reached_nvlink(cluster, calibration)
                                    : reached_nic(cluster, calibration));
}

}  // namespace pipecast
