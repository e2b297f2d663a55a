/// What forward, backward and decoding attention kernels have in common. Internal to model/ops.
#pragma once

#include <initializer_list>

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

/// Clock of a kernel whose SMs compute for so many cycles, their tensor cores for some of them:
/// what the chip sustains under that load, and never more than gives the vendor's peak.
/// @param cycles  at the highest clock, waiting for HBM included
Frequency attention_clock(const GpuSpec& gpu, const CalibrationSpec& calibration, int sms,
                          double tensor_cycles, double cycles);

/// Dense tensor-core FLOP per clock and SM.
/// @throws Error if the GPU's tensor cores do not know the precision
double tensor_flop_per_clock(const Operation& op, const GpuSpec& gpu);

/// Cycles of one SM for so many scores on the CUDA cores: exponentials on the special-function
/// units, then `instructions` per score on the FP32 lanes.
double softmax_cycles(double scores, double instructions);

/// FP32-lane instructions per score: scale and subtract, maximum, sum, conversion, mask, rescaling
/// of the sums so far.
inline constexpr double kForwardInstructions = 6;
/// Scale and subtract, conversion, mask, gradient less row sum, product, scale, conversion,
/// exchange of layouts.
inline constexpr double kBackwardInstructions = 8;

/// L2 to SMs. Source: NVIDIA A100 whitepaper, 5,120 bytes per clock; not published for the H100,
/// taken as the same.
inline constexpr double kL2BytesPerClock = 5120;

/// A share of the cycles and what it says of the limit.
struct LimitedPart {
  std::string_view name;
  double cycles = 0;
  Limit limit{};
};

/// Fills time, cycles, clock, parts and limit. Parts of the same limit count together.
/// @param parts  at most kMaxKernelParts; their sum is the kernel's time
void set_parts(KernelCost& cost, Frequency clock, std::initializer_list<LimitedPart> parts);

/// @throws Error if batch or queries are negative, another extent is not positive, there are fewer
/// keys than queries, or heads are no multiple of kv_heads
void check_attention(const Operation& op, int sms);

/// Words of the option `kv_dtype`.
inline constexpr NamedValue kCacheFormats[] = {{"none", 0}, {"bfloat16", 1}, {"fp8", 2}};
std::optional<Precision> cache_format(std::int64_t value);

}  // namespace pipecast
