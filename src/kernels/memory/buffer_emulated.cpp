#include <cstdlib>
#include <cstring>

#include "kernels/memory/buffer.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

// As cudaMalloc aligns. Not rounded up: a sanitizer sees what a kernel reads past the end.
void* allocate_shared_with_device(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes == 0 ? 1 : bytes) != 0) {
    throw DeviceError("out of memory");
  }
  std::memset(memory, 0xff, bytes);
  return memory;
}
void release_shared_with_device(void* memory) { std::free(memory); }
void synchronise() {}
void choose_order(std::uint64_t seed) { emulation::set_seed(seed); }
bool emulated() { return true; }

}  // namespace pipecast::kernels
