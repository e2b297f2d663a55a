#include "app/chunk/chunk_utilisation.hpp"

#include <algorithm>
#include <compare>

namespace pipecast {

namespace {

/// Time that an operation would take at the dense peak of its precision; none for what uses no
/// tensor cores.
double tensor_seconds(const Operation& operation, const GpuSpec& gpu) {
  const bool tensor =
      operation.precision == Precision::kFp8 || operation.precision == Precision::kBf16;
  if (!tensor || operation.flops.count() <= 0) return 0;
  const double peak = gpu.tensor_peak(operation.precision, gpu.sm_count).count();
  return peak > 0 ? operation.flops.count() / peak : 0;
}

/// What runs in a stretch, with what it gets.
void add_kernels(GpuUse& use, const Running& running, KernelTable& kernels) {
  const GpuSpec& gpu = kernels.scenario().cluster.gpu;
  const GpuShares shares = share_gpu(running, kernels);
  for (std::size_t s = 0; s < kStreams; ++s) {
    const std::int32_t kernel = running.kernel[s];
    if (kernel < 0 || !shares.time[s]) continue;
    const GpuKernelCost& cost = kernels.cost(kernel, shares.sms[s]);
    const double done = to_seconds(use.end - use.start) / to_seconds(*shares.time[s]);
    use.sms += shares.sms[s];
    use.tensor += done * tensor_seconds(kernels.at(kernel).operation, gpu);
    use.hbm_bytes += done * cost.hbm_bytes;
    use.nvlink_bytes += done * cost.nvlink_bytes;
    use.nic_bytes += done * cost.nic_bytes;
  }
}

}  // namespace

std::vector<GpuUse> gpu_use(const std::vector<Launch>& launches,
                            const std::vector<KernelSpan>& spans, KernelTable& kernels) {
  struct Event {
    Duration when;
    bool start = false;  // ends come first
    std::size_t stream = 0;
    std::int32_t kernel = 0;
    auto operator<=>(const Event&) const = default;
  };
  std::vector<Event> events;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const auto stream = static_cast<std::size_t>(launches[i].stream);
    if (spans[i].end <= spans[i].start) continue;
    events.push_back({spans[i].start, true, stream, launches[i].kernel});
    events.push_back({spans[i].end, false, stream, launches[i].kernel});
  }
  std::sort(events.begin(), events.end());
  std::vector<GpuUse> out;
  Running running;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const Event& event = events[i];
    running.kernel[event.stream] = event.start ? event.kernel : -1;
    running.order[event.stream] = static_cast<std::int32_t>(i);
    if (i + 1 == events.size() || events[i + 1].when == event.when) continue;
    out.push_back({.start = event.when, .end = events[i + 1].when});
    add_kernels(out.back(), running, kernels);
  }
  return out;
}

Utilisation utilisation_of(const std::vector<GpuUse>& use, const ClusterSpec& cluster) {
  Utilisation out;
  if (use.empty()) return out;
  const double span = to_seconds(use.back().end - use.front().start);
  for (const GpuUse& stretch : use) {
    out.sm += stretch.sms * to_seconds(stretch.end - stretch.start) / cluster.gpu.sm_count / span;
    out.tensor_cores += stretch.tensor / span;
    out.hbm += stretch.hbm_bytes / cluster.gpu.hbm_bandwidth.count() / span;
    out.nvlink += stretch.nvlink_bytes / cluster.nvlink.bandwidth.count() / span;
    out.nic += stretch.nic_bytes / cluster.nic_per_gpu().count() / span;
  }
  return out;
}

}  // namespace pipecast
