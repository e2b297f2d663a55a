#pragma once

#include <string>

namespace pipecast::kernels {

/// Why no kernel of this build can run here, or empty if one can: there is a GPU of compute
/// capability 9.0, as the kernels are compiled for.
std::string why_no_gpu();

}  // namespace pipecast::kernels
