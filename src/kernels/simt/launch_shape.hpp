#pragma once

#include <cstddef>

namespace pipecast::kernels {

/// Blocks of a launch, threads of each, and the dynamic shared memory of each.
struct LaunchShape {
  int grid;
  int block;
  std::size_t shared_bytes;
};

}  // namespace pipecast::kernels
