#pragma once

/// The GPUs of this machine, and time on them. Plain C++: calibration/gpu_device.cu defines this
/// with CUDA, gpu_device_emulated.cpp where there is none.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pipecast::kernels {

struct GpuDevice {
  std::string name;        // as the driver has it: "NVIDIA H100 80GB HBM3"
  std::string pci_bus_id;  // by which NVML knows it
  std::string cuda;        // newest version of CUDA that the driver serves: "13.0"
  int sm_count;
  std::int64_t memory_bytes;
};

struct GpuInventory {
  std::vector<GpuDevice> devices;
  std::string reason;  // why there is none that the kernels run on; empty where there is one
};

/// Never throws: a machine without a driver has no devices and a reason.
GpuInventory find_gpus();

/// Makes a device of find_gpus() the current one. @throws DeviceError
void use_gpu(int index);

struct TimingOptions {
  int warm_up;
  int repetitions;
  bool flush_l2;  // before every repetition, so that operands come from HBM
};

/// Microseconds of every repetition, between two events on the device's stream.
/// @param run      enqueues the work once
/// @param prepare  enqueues what has to come before each, untimed; may be empty
/// @throws DeviceError if a kernel failed, or without CUDA
std::vector<double> time_on_gpu(const std::function<void()>& run, const TimingOptions& options,
                                const std::function<void()>& prepare = {});

/// Every one of the devices sends `bytes` to all of them together, an equal share to each, through
/// NCCL (opened at run time: libnccl.so.2), as grouped ncclSend and ncclRecv: the slowest device's
/// microseconds. @throws DeviceError also where NCCL is not there
std::vector<double> time_nccl_all_to_all(const std::vector<int>& devices, std::int64_t bytes,
                                         const TimingOptions& options);

/// A kernel of each rank (memory/ranks.hpp), all at once: microseconds of every repetition from
/// when the last of them has started, which is the shortest time that any rank sees.
/// @param prepare  has to come before each, untimed
std::vector<double> time_ranks_together(int ranks, const std::function<void(int)>& launch_rank,
                                        const TimingOptions& options,
                                        const std::function<void()>& prepare);

/// Copies between the memories of two devices, timed in the same way.
std::vector<double> time_peer_copy(int from, int to, std::int64_t bytes,
                                   const TimingOptions& options);

}  // namespace pipecast::kernels
