#include <dlfcn.h>

#include <algorithm>
#include <memory>

#include "kernels/calibration/gpu_device.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

// NCCL's C interface as far as it is used here: the library is opened at run time, so that nothing
// needs it to build or to start. Source: NCCL 2 user guide, "NCCL API" (types.html, comms.html,
// p2p.html, group.html).
using NcclComm = void*;
using NcclResult = int;       // ncclResult_t; 0 is ncclSuccess
constexpr int kNcclInt8 = 0;  // ncclDataType_t

class Nccl {
 public:
  Nccl() : library_(dlopen("libnccl.so.2", RTLD_NOW)) {
    if (library_ == nullptr) throw DeviceError(std::string("no NCCL: ") + dlerror());
    find(init_all_, "ncclCommInitAll");
    find(destroy_, "ncclCommDestroy");
    find(group_start_, "ncclGroupStart");
    find(group_end_, "ncclGroupEnd");
    find(send_, "ncclSend");
    find(receive_, "ncclRecv");
    find(error_text_, "ncclGetErrorString");
  }

  void check(NcclResult status, const char* what) const {
    if (status != 0) throw DeviceError(std::string(what) + ": " + error_text_(status));
  }

  NcclResult (*init_all_)(NcclComm*, int, const int*) = nullptr;
  NcclResult (*destroy_)(NcclComm) = nullptr;
  NcclResult (*group_start_)() = nullptr;
  NcclResult (*group_end_)() = nullptr;
  NcclResult (*send_)(const void*, std::size_t, int, int, NcclComm, cudaStream_t) = nullptr;
  NcclResult (*receive_)(void*, std::size_t, int, int, NcclComm, cudaStream_t) = nullptr;
  const char* (*error_text_)(NcclResult) = nullptr;

 private:
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr) throw DeviceError(std::string("NCCL has no ") + name);
  }

  void* library_;  // stays open: NCCL's threads may outlive a use
};

const Nccl& nccl() {
  static const Nccl kLibrary;
  return kLibrary;
}

/// One device of the exchange: its buffers, stream and events.
class Rank {
 public:
  Rank(int device, std::size_t bytes) : device_(device) {
    check_cuda(cudaSetDevice(device), "choosing a device");
    check_cuda(cudaMalloc(&out_, bytes), "device memory");
    check_cuda(cudaMalloc(&in_, bytes), "device memory");
    check_cuda(cudaStreamCreate(&stream_), "a stream");
    check_cuda(cudaEventCreate(&start_), "an event");
    check_cuda(cudaEventCreate(&end_), "an event");
  }
  ~Rank() {
    cudaSetDevice(device_);
    cudaEventDestroy(end_);
    cudaEventDestroy(start_);
    cudaStreamDestroy(stream_);
    cudaFree(in_);
    cudaFree(out_);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  void exchange(NcclComm comm, int ranks, std::size_t share) const {
    for (int peer = 0; peer < ranks; ++peer) {
      const std::size_t at = static_cast<std::size_t>(peer) * share;
      nccl().check(
          nccl().send_(static_cast<char*>(out_) + at, share, kNcclInt8, peer, comm, stream_),
          "ncclSend");
      nccl().check(
          nccl().receive_(static_cast<char*>(in_) + at, share, kNcclInt8, peer, comm, stream_),
          "ncclRecv");
    }
  }
  void record_start() const { record(start_); }
  void record_end() const { record(end_); }
  double microseconds() const {
    check_cuda(cudaSetDevice(device_), "choosing a device");
    check_cuda(cudaEventSynchronize(end_), "an exchange");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_, end_), "time of an exchange");
    return 1e3 * static_cast<double>(milliseconds);
  }

 private:
  void record(cudaEvent_t event) const {
    check_cuda(cudaSetDevice(device_), "choosing a device");
    check_cuda(cudaEventRecord(event, stream_), "recording an event");
  }

  int device_;
  void* out_ = nullptr;
  void* in_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

class Communicators {
 public:
  explicit Communicators(const std::vector<int>& devices) : comms_(devices.size()) {
    nccl().check(nccl().init_all_(comms_.data(), static_cast<int>(devices.size()), devices.data()),
                 "ncclCommInitAll");
  }
  ~Communicators() {
    for (NcclComm comm : comms_) nccl().destroy_(comm);
  }
  Communicators(const Communicators&) = delete;
  Communicators& operator=(const Communicators&) = delete;
  NcclComm of(std::size_t rank) const { return comms_[rank]; }

 private:
  std::vector<NcclComm> comms_;
};

}  // namespace

std::vector<double> time_nccl_all_to_all(const std::vector<int>& devices, std::int64_t bytes,
                                         const TimingOptions& options) {
  int before = 0;
  check_cuda(cudaGetDevice(&before), "current device");
  const Communicators communicators(devices);
  std::vector<std::unique_ptr<Rank>> ranks;
  for (const int device : devices) {
    ranks.push_back(std::make_unique<Rank>(device, static_cast<std::size_t>(bytes)));
  }
  const std::size_t share = static_cast<std::size_t>(bytes) / devices.size();
  std::vector<double> out;
  for (int i = 0; i < options.warm_up + options.repetitions; ++i) {
    for (const auto& rank : ranks) rank->record_start();
    nccl().check(nccl().group_start_(), "ncclGroupStart");
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      ranks[r]->exchange(communicators.of(r), static_cast<int>(devices.size()), share);
    }
    nccl().check(nccl().group_end_(), "ncclGroupEnd");
    for (const auto& rank : ranks) rank->record_end();
    double slowest = 0;
    for (const auto& rank : ranks) slowest = std::max(slowest, rank->microseconds());
    if (i >= options.warm_up) out.push_back(slowest);
  }
  check_cuda(cudaSetDevice(before), "choosing a device");
  return out;
}

}  // namespace pipecast::kernels
