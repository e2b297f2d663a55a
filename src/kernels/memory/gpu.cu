#include "kernels/memory/gpu.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  if (count == 0) return "no CUDA device";
  int major = 0;
  int minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "device");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "device");
  if (major == 9 && minor == 0) return {};
  return "the kernels are compiled for compute capability 9.0, this GPU has " +
         std::to_string(major) + "." + std::to_string(minor);
}

}  // namespace pipecast::kernels
