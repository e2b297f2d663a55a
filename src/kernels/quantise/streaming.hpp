#pragma once

/// What kernels share that only move and convert memory: eight neighbours of a row are one access
/// of 16 bytes in BF16 and of 8 in FP8, and a block takes work in turns until there is none left.
#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

constexpr int kEight = 8;
constexpr int kStreamingThreads = 256;

/// Eight neighbours of a row in registers.
struct EightFloats {
  float value[kEight];
};

/// Eight BF16 that a kernel reads once: past the L1.
__device__ __forceinline__ uint4 load_once(const Bf16* source) {
  const int4 bits = load_streaming(reinterpret_cast<const int4*>(source));
  return make_uint4(static_cast<unsigned>(bits.x), static_cast<unsigned>(bits.y),
                    static_cast<unsigned>(bits.z), static_cast<unsigned>(bits.w));
}
/// Eight BF16 that other blocks read as well, or that somebody writes in the same kernel.
__device__ __forceinline__ uint4 load_eight(const Bf16* source) {
  return *reinterpret_cast<const uint4*>(source);
}
__device__ __forceinline__ uint2 load_eight(const E4m3* source) {
  return *reinterpret_cast<const uint2*>(source);
}
__device__ __forceinline__ void store_eight(Bf16* target, const uint4& packed) {
  *reinterpret_cast<uint4*>(target) = packed;
}
__device__ __forceinline__ void store_eight(E4m3* target, const uint2& packed) {
  *reinterpret_cast<uint2*>(target) = packed;
}

__device__ __forceinline__ EightFloats unpack(const uint4& packed) {
  const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
  EightFloats result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    result.value[2 * i] = float_of(words[i] << 16);
    result.value[2 * i + 1] = float_of(words[i] & 0xffff0000U);
  }
  return result;
}
__device__ __forceinline__ uint4 pack(const EightFloats& x) {
  return make_uint4(pack_bf16(x.value[0], x.value[1]), pack_bf16(x.value[2], x.value[3]),
                    pack_bf16(x.value[4], x.value[5]), pack_bf16(x.value[6], x.value[7]));
}

/// Eight E4M3 codes as numbers, times their scale.
__device__ __forceinline__ EightFloats unpack(const uint2& codes, float scale) {
  EightFloats result;
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    const unsigned word = i < 4 ? codes.x : codes.y;
    result.value[i] = to_float(E4m3{static_cast<std::uint8_t>(word >> i % 4 * 8)}) * scale;
  }
  return result;
}

/// Throws away what is too large for the 32-bit arithmetic of an index.
inline int checked_work(std::int64_t pieces, const char* kernel) {
  if (pieces > INT32_MAX / 2) throw DeviceError(std::string(kernel) + ": too many rows");
  return static_cast<int>(pieces);
}

/// Blocks of a kernel that loops over its work: all that the SMs hold at once, and no more than
/// there is work for. @param sms 0 for all of the device
inline int persistent_blocks(std::int64_t work, int sms, int blocks_per_sm) {
  const std::int64_t most = static_cast<std::int64_t>(sms > 0 ? sms : device_sms()) * blocks_per_sm;
  return static_cast<int>(work < most ? work : most);
}

constexpr int ceil_quotient(int a, int b) { return (a + b - 1) / b; }

/// @throws DeviceError unless rows of `columns` elements can be read eight at a time
inline void require_eights(int rows, int columns, const char* kernel) {
  if (rows < 0 || columns <= 0 || columns % kEight != 0) {
    throw DeviceError(std::string(kernel) + ": rows of a multiple of 8 elements");
  }
}

}  // namespace pipecast::kernels
