#include <utility>

#include "kernels/memory/ranks.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

/// Lets the current device reach the others' memory; once is enough, twice does no harm.
void reach_peers(int rank, int ranks) {
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank) continue;
    const cudaError_t status = cudaDeviceEnablePeerAccess(peer, 0);
    if (status == cudaErrorPeerAccessAlreadyEnabled) {
      cudaGetLastError();  // forget it
    } else {
      check_cuda(status, "access to a peer's memory");
    }
  }
}

/// Makes another device current until the end of the scope.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check_cuda(cudaGetDevice(&before_), "current device");
    check_cuda(cudaSetDevice(device), "a rank's device");
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

}  // namespace

int most_ranks() {
  int devices = 0;
  check_cuda(cudaGetDeviceCount(&devices), "number of devices");
  for (int peer = 1; peer < devices; ++peer) {
    int there = 0;
    int back = 0;
    check_cuda(cudaDeviceCanAccessPeer(&there, 0, peer), "reach of a peer");
    check_cuda(cudaDeviceCanAccessPeer(&back, peer, 0), "reach of a peer");
    if (there == 0 || back == 0) return peer;
  }
  return devices;
}

void run_ranks_together(int ranks, const std::function<void(int)>& launch_rank) {
  if (ranks > most_ranks()) throw DeviceError("fewer GPUs than ranks");
  for (int rank = 0; rank < ranks; ++rank) {
    const DeviceScope scope(rank);
    reach_peers(rank, ranks);
  }
  // Launches return at once: the kernels run beside each other.
  for (int rank = 0; rank < ranks; ++rank) {
    const DeviceScope scope(rank);
    launch_rank(rank);
  }
  for (int rank = 0; rank < ranks; ++rank) {
    const DeviceScope scope(rank);
    check_cuda(cudaDeviceSynchronize(), "a rank's kernels");
  }
}

void run_ranks_apart(int ranks, const std::function<void(int)>& launch_rank) {
  run_ranks_together(ranks, launch_rank);
}

RankMemory::RankMemory(int rank, std::size_t bytes) : rank_(rank) {
  const DeviceScope scope(rank);
  const std::size_t size = bytes == 0 ? 1 : bytes;
  check_cuda(cudaMalloc(&data_, size), "memory of a rank");
  check_cuda(cudaMemset(data_, 0, size), "filling a rank's memory");
}
RankMemory::~RankMemory() { cudaFree(data_); }
RankMemory::RankMemory(RankMemory&& other) noexcept
    : rank_(other.rank_), data_(std::exchange(other.data_, nullptr)) {}
void RankMemory::write(const void* from, std::size_t bytes) const {
  const DeviceScope scope(rank_);
  check_cuda(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "writing a rank's memory");
}
void RankMemory::read(void* to, std::size_t offset, std::size_t bytes) const {
  const DeviceScope scope(rank_);
  check_cuda(
      cudaMemcpy(to, static_cast<const char*>(data_) + offset, bytes, cudaMemcpyDeviceToHost),
      "reading a rank's memory");
}

}  // namespace pipecast::kernels
