/// What forward, backward and decoding attention kernels have in common. Internal to model/ops.
#pragma once

#include <initializer_list>

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

/// SM clock that the chip sustains while its tensor cores work in this share of the cycles: it
/// boosts above the vendor's clock when they idle and throttles below it when they do not.
/// Source: H100 SXM5 1,980 MHz at most; 1,600 MHz under load (FlashMLA, docs/20250422); relative to
/// the 1,830 MHz of the vendor's peak.
Frequency sustained_clock(const GpuSpec& gpu, double tensor_utilisation);

/// Mean clock of a kernel of so many cycles. Power limits act late: until `throttle_us` the chip
/// runs between its boost clock (tensor cores idle) and the vendor's clock (they never do), from
/// then on at the sustained one. Source: H100 table of MLA prefill, where BF16 kernels from 3 ms on
/// are 8 % slower per FLOP than shorter ones and FP8 kernels, whose tensor cores idle more, are
/// not.
Frequency mean_clock(const GpuSpec& gpu, double cycles, double tensor_utilisation,
                     double throttle_us);

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
