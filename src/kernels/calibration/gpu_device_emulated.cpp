#include "kernels/calibration/gpu_device.hpp"
#include "kernels/simt/device_error.hpp"

namespace pipecast::kernels {

namespace {

constexpr const char* kReason = "built without CUDA: no nvcc was found";

}  // namespace

GpuInventory find_gpus() { return {{}, kReason}; }

void use_gpu(int) { throw DeviceError(kReason); }

// Emulated kernels have no time: what they take here says nothing of a GPU.
std::vector<double> time_on_gpu(const std::function<void()>&, const TimingOptions&,
                                const std::function<void()>&) {
  throw DeviceError(kReason);
}
std::vector<double> time_ranks_together(int, const std::function<void(int)>&, const TimingOptions&,
                                        const std::function<void()>&) {
  throw DeviceError(kReason);
}
std::vector<double> time_peer_copy(int, int, std::int64_t, const TimingOptions&) {
  throw DeviceError(kReason);
}
std::vector<double> time_nccl_all_to_all(const std::vector<int>&, std::int64_t,
                                         const TimingOptions&) {
  throw DeviceError(kReason);
}

}  // namespace pipecast::kernels
