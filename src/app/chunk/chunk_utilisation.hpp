/// What a played chunk makes of its GPU.
#pragma once

#include <vector>

#include "app/chunk/chunk_run.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

/// What kernels had of the GPU from one start or end of a kernel to the next. Each kernel spreads
/// its FLOPs and bytes evenly over the time that it takes at its speed of that stretch.
/// @param spans  as play() gives them for these launches
std::vector<GpuUse> gpu_use(const std::vector<Launch>& launches,
                            const std::vector<KernelSpan>& spans, KernelTable& kernels);

/// Shares of what the GPU offers over the time of a chunk, 0 .. 1.
struct Utilisation {
  double sm = 0;            ///< SM time that kernels held, over all SMs
  double tensor_cores = 0;  ///< useful FLOPs over the vendor's dense peak of their precision
  double hbm = 0;           ///< bytes over the line rate; so below
  double nvlink = 0;        ///< sent
  double nic = 0;           ///< sent, over the line rate that PCIe leaves
};

Utilisation utilisation_of(const std::vector<GpuUse>& use, const ClusterSpec& cluster);

}  // namespace pipecast
