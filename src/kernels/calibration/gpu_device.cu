#include <algorithm>
#include <limits>
#include <memory>

#include "kernels/calibration/gpu_device.hpp"
#include "kernels/memory/gpu.hpp"
#include "kernels/memory/ranks.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

/// An event of the current device.
class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record() { check_cuda(cudaEventRecord(event_), "recording an event"); }
  void wait() { check_cuda(cudaEventSynchronize(event_), "a timed kernel"); }
  double microseconds_since(const Event& start) const {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start.event_, event_), "time between events");
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Memory of the current device alone.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::int64_t bytes) : bytes_(static_cast<std::size_t>(bytes)) {
    if (bytes_ > 0) check_cuda(cudaMalloc(&data_, bytes_), "device memory");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }
  /// Writes all of it, on the device's stream.
  void write() const {
    if (bytes_ > 0) check_cuda(cudaMemsetAsync(data_, 0, bytes_), "flushing the L2");
  }

 private:
  std::size_t bytes_ = 0;
  void* data_ = nullptr;
};

std::int64_t attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "an attribute of the device");
  return value;
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  return device;
}

std::string cuda_version() {
  int version = 0;
  check_cuda(cudaDriverGetVersion(&version), "version of the driver");
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

GpuInventory find_gpus() {
  try {
    const std::string reason = why_no_gpu();
    if (!reason.empty()) return {{}, reason};
    int count = 0;
    check_cuda(cudaGetDeviceCount(&count), "number of devices");
    GpuInventory out;
    for (int i = 0; i < count; ++i) {
      cudaDeviceProp properties{};
      check_cuda(cudaGetDeviceProperties(&properties, i), "properties of a device");
      char bus_id[32] = {};
      check_cuda(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, i), "bus of a device");
      out.devices.push_back({properties.name, bus_id, cuda_version(),
                             properties.multiProcessorCount,
                             static_cast<std::int64_t>(properties.totalGlobalMem)});
    }
    return out;
  } catch (const DeviceError& error) {
    return {{}, error.what()};
  }
}

void use_gpu(int index) { check_cuda(cudaSetDevice(index), "choosing a device"); }

std::vector<double> time_on_gpu(const std::function<void()>& run, const TimingOptions& options,
                                const std::function<void()>& prepare) {
  // Twice the L2, so that nothing of the operands stays.
  const std::int64_t flushed = 2 * attribute(cudaDevAttrL2CacheSize, current_device());
  const DeviceMemory flush(options.flush_l2 ? flushed : 0);
  const auto make_ready = [&] {
    if (prepare) prepare();
  };
  for (int i = 0; i < options.warm_up; ++i) {
    make_ready();
    run();
  }
  check_cuda(cudaDeviceSynchronize(), "a kernel that warms up");
  std::vector<double> out;
  Event start;
  Event end;
  for (int i = 0; i < options.repetitions; ++i) {
    make_ready();
    flush.write();
    start.record();
    run();
    end.record();
    end.wait();
    out.push_back(end.microseconds_since(start));
  }
  return out;
}

std::vector<double> time_ranks_together(int ranks, const std::function<void(int)>& launch_rank,
                                        const TimingOptions& options,
                                        const std::function<void()>& prepare) {
  struct Span {
    Event start;
    Event end;
  };
  std::vector<std::unique_ptr<Span>> spans;  // on each rank's own device
  run_ranks_apart(ranks, [&](int) { spans.push_back(std::make_unique<Span>()); });
  std::vector<double> out;
  for (int i = 0; i < options.warm_up + options.repetitions; ++i) {
    prepare();
    run_ranks_together(ranks, [&](int rank) {
      Span& span = *spans[static_cast<std::size_t>(rank)];
      span.start.record();
      launch_rank(rank);
      span.end.record();
    });
    if (i < options.warm_up) continue;
    double shortest = std::numeric_limits<double>::infinity();
    for (const auto& span : spans) {
      shortest = std::min(shortest, span->end.microseconds_since(span->start));
    }
    out.push_back(shortest);
  }
  return out;
}

std::vector<double> time_peer_copy(int from, int to, std::int64_t bytes,
                                   const TimingOptions& options) {
  const auto reaches = [](int source, int target) {
    int can = 0;
    check_cuda(cudaDeviceCanAccessPeer(&can, source, target), "access between devices");
    if (can == 0) throw DeviceError("the two GPUs cannot reach each other's memory");
    use_gpu(source);
    const cudaError_t status = cudaDeviceEnablePeerAccess(target, 0);
    if (status != cudaErrorPeerAccessAlreadyEnabled) check_cuda(status, "access between devices");
    cudaGetLastError();  // forgets that it was enabled already
  };
  const int before = current_device();
  reaches(to, from);
  const DeviceMemory target(bytes);
  reaches(from, to);
  const DeviceMemory source(bytes);
  const std::vector<double> out = time_on_gpu(
      [&] {
        check_cuda(cudaMemcpyPeerAsync(target.data(), to, source.data(), from,
                                       static_cast<std::size_t>(bytes)),
                   "a copy between devices");
      },
      options);
  use_gpu(before);
  return out;
}

}  // namespace pipecast::kernels
