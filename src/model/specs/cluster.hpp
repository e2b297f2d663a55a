/// The machines and the links between them. Bandwidths are line rates per GPU and direction.
#pragma once

#include <algorithm>
#include <string>

#include "base/units.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

struct NvlinkSpec {
  Bandwidth bandwidth;
  Duration latency;
};

struct PcieSpec {
  Bandwidth bandwidth;  ///< caps what one GPU's NIC can take
};

struct NicSpec {
  int per_gpu = 0;
  Bandwidth bandwidth;  ///< of one port
  Duration latency;     ///< end to end between two GPUs below one leaf switch
  /// Part of a port that a pipeline message gets at least beside an all-to-all: one flow of eight,
  /// as NICs share by queue pair and a GPU of eight nodes' group sends to seven others (measured
  /// with SimGrid: network.md of the design).
  double message_share = 0.125;
};

struct FabricSpec {
  std::string topology;  ///< multi-plane-fat-tree
  int planes = 0;        ///< GPU i of every node is connected to plane i mod planes
  int switch_ports = 0;
  double oversubscription = 1;  ///< leaf down-links over up-links
  Duration spine_latency;       ///< what the leaf-spine-leaf detour adds
};

struct ClusterSpec {
  int nodes = 0;
  int gpus_per_node = 0;
  GpuSpec gpu;
  NvlinkSpec nvlink;
  PcieSpec pcie;
  NicSpec nic;
  FabricSpec fabric;

  [[nodiscard]] int gpus() const { return nodes * gpus_per_node; }
  /// What one GPU can send (or receive) through its NICs, after the PCIe cap.
  [[nodiscard]] Bandwidth nic_per_gpu() const {
    return std::min(Bandwidth(nic.bandwidth.count() * nic.per_gpu), pcie.bandwidth);
  }
};

}  // namespace pipecast
