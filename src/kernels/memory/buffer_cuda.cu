#include "kernels/memory/buffer.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

void* allocate_shared_with_device(std::size_t bytes) {
  void* memory = nullptr;
  check_cuda(cudaMallocManaged(&memory, bytes == 0 ? 1 : bytes), "managed memory");
  check_cuda(cudaMemset(memory, 0xff, bytes == 0 ? 1 : bytes), "filling memory");
  check_cuda(cudaDeviceSynchronize(), "filling memory");
  return memory;
}
void release_shared_with_device(void* memory) { cudaFree(memory); }
void synchronise() { check_cuda(cudaDeviceSynchronize(), "a kernel"); }
void choose_order(std::uint64_t) {}
bool emulated() { return false; }

}  // namespace pipecast::kernels
