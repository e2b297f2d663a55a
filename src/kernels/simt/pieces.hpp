#pragma once

/// Sixteen bytes as a kernel moves them, read as BF16 or FP32.
#include "kernels/numbers/bf16.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

/// BF16 elements of a 16-byte piece.
constexpr int kBf16PerPiece = 8;
constexpr int kBytesPerPiece = 16;

__device__ __forceinline__ void unpack_bf16(const int4& piece, float (&values)[kBf16PerPiece]) {
  const int words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto word = static_cast<std::uint32_t>(words[i]);
    values[2 * i] = float_of(word << 16);
    values[2 * i + 1] = float_of(word & 0xffff0000U);
  }
}
__device__ __forceinline__ int4 pack_piece(const float (&values)[kBf16PerPiece]) {
  return make_int4(static_cast<int>(pack_bf16(values[0], values[1])),
                   static_cast<int>(pack_bf16(values[2], values[3])),
                   static_cast<int>(pack_bf16(values[4], values[5])),
                   static_cast<int>(pack_bf16(values[6], values[7])));
}
__device__ __forceinline__ void store_fp32(float* place, const float (&values)[kBf16PerPiece]) {
  auto* pieces = reinterpret_cast<float4*>(place);
  pieces[0] = make_float4(values[0], values[1], values[2], values[3]);
  pieces[1] = make_float4(values[4], values[5], values[6], values[7]);
}
__device__ __forceinline__ void load_fp32(const float* place, float (&values)[kBf16PerPiece]) {
  const auto* pieces = reinterpret_cast<const float4*>(place);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float4 four = pieces[half];
    values[4 * half] = four.x;
    values[4 * half + 1] = four.y;
    values[4 * half + 2] = four.z;
    values[4 * half + 3] = four.w;
  }
}

/// Takes the lowest bit out of a mask that is not empty, and says which it was.
__device__ __forceinline__ int take_lowest(unsigned& mask) {
  const int bit = __ffs(static_cast<int>(mask)) - 1;
  mask &= mask - 1;
  return bit;
}

/// Blocks of a kernel that loops over `work` items: at most `per_sm` on each of `sms` SMs (0: all).
inline int persistent_grid(std::int64_t work, int sms, int per_sm) {
  const std::int64_t most = static_cast<std::int64_t>(sms > 0 ? sms : device_sms()) * per_sm;
  return static_cast<int>(work < most ? work : most);
}

}  // namespace pipecast::kernels
