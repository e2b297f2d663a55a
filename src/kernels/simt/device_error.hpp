#pragma once

#include <stdexcept>

namespace pipecast::kernels {

/// A kernel that could not run, or broke a rule of the machine: the CUDA runtime's words, or the
/// emulation's (deadlock, barrier misuse, an unfenced wgmma, ...).
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace pipecast::kernels
