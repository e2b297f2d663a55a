/// Bytes of parameters: plain numbers, and weights in the form in which products read them.
#pragma once

#include "base/units.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// So many numbers without scales, rounded down to a byte.
Bytes plain_bytes(Precision precision, std::int64_t count);

/// Blocks of 128 x 128 of one of a tensor's copies, incomplete ones included.
std::int64_t scale_blocks(const ParameterTensor& tensor);

/// Linear layers and experts in `linear`, everything else in BF16. FP8 has an FP32 scale for each
/// block of 128 x 128, also for an incomplete one. Source: DeepSeek-V3 report (arXiv 2412.19437),
/// section 3.3.
/// @throws Error if `linear` is neither BF16 nor FP8
Bytes stored_weight_bytes(const ParameterTensor& tensor, Precision linear);

}  // namespace pipecast
