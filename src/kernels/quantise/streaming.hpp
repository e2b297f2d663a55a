#pragma once

/// What kernels share that only move and convert memory: eight neighbours of a row are one access
/// of 16 bytes in BF16 and of 8 in FP8, and a block takes work in turns until there is none left.
#include <cstdint>
#include <string>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/simt/pieces.hpp"

namespace pipecast::kernels {

constexpr int kEight = kBf16PerPiece;
constexpr int kStreamingThreads = 256;

/// Eight neighbours of a row in registers.
struct EightFloats {
  float value[kEight];
};

/// Eight BF16 that a kernel reads once: past the L1.
__device__ __forceinline__ int4 load_once(const Bf16* source) {
  return load_streaming(reinterpret_cast<const int4*>(source));
}
/// Eight BF16 that other blocks read as well, or that the same kernel writes.
__device__ __forceinline__ int4 load_eight(const Bf16* source) {
  return *reinterpret_cast<const int4*>(source);
}
__device__ __forceinline__ uint2 load_eight(const E4m3* source) {
  return *reinterpret_cast<const uint2*>(source);
}
__device__ __forceinline__ void store_eight(Bf16* target, const int4& packed) {
  *reinterpret_cast<int4*>(target) = packed;
}
__device__ __forceinline__ void store_eight(E4m3* target, const uint2& packed) {
  *reinterpret_cast<uint2*>(target) = packed;
}

__device__ __forceinline__ EightFloats unpack(const int4& piece) {
  EightFloats result;
  unpack_bf16(piece, result.value);
  return result;
}
__device__ __forceinline__ int4 pack(const EightFloats& x) { return pack_piece(x.value); }

/// Eight E4M3 codes as numbers, times their scale. As to_float() does it, without branches: the
/// code's bits are those of an FP32 of the number over 2^120, subnormal ones too, as FP32's
/// exponents are biased by 120 more.
__device__ __forceinline__ EightFloats unpack(const uint2& codes, float scale) {
  constexpr unsigned kNanCode = 0x7fU;
  constexpr float kRebias = 0x1p120F;
  EightFloats result;
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    const unsigned code = (i < 4 ? codes.x : codes.y) >> i % 4 * 8;
    const unsigned magnitude = code & kNanCode;
    const float number = float_of((code & 0x80U) << 24 | magnitude << 20) * kRebias * scale;
    result.value[i] = magnitude == kNanCode ? float_of(0x7fc00000U) : number;
  }
  return result;
}

/// @throws DeviceError on more pieces of work than the 32-bit arithmetic of an index can count
inline int checked_work(std::int64_t pieces, const char* kernel) {
  if (pieces > INT32_MAX / 2) throw DeviceError(std::string(kernel) + ": too many rows");
  return static_cast<int>(pieces);
}

constexpr int ceil_quotient(int a, int b) { return (a + b - 1) / b; }

/// @throws DeviceError unless rows of `columns` elements can be read eight at a time
inline void require_eights(int rows, int columns, const char* kernel) {
  if (rows < 0 || columns <= 0 || columns % kEight != 0) {
    throw DeviceError(std::string(kernel) + ": rows of a multiple of 8 elements");
  }
}

}  // namespace pipecast::kernels
