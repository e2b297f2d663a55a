#pragma once

/// How a warpgroup's 64 rows of results leave: through shared memory, in boxes of 64 rows by 128
/// bytes that bulk tensor copies take away while the next box is written.
#include <type_traits>

#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {

constexpr int kWarpgroupRows = 64;
constexpr int kBoxBytes = 128;  // of a row

/// Two boxes of a warpgroup: one is written while the other is read.
struct ResultBoxes {
  static constexpr int kCount = 2;
  alignas(1024) unsigned char box[kCount][kWarpgroupRows * kBoxBytes];
};

/// A result in global memory as its bulk stores see it. Rows of 64, in 128 bytes of columns.
template <class Result>
MatrixWindow result_window(Result* d, std::int64_t rows, int columns) {
  constexpr Element kElement = std::is_same_v<Result, float> ? Element::kFp32 : Element::kBf16;
  return {d,
          kElement,
          rows,
          columns,
          columns,
          kWarpgroupRows,
          kBoxBytes / static_cast<int>(sizeof(Result)),
          Swizzle::k128Bytes};
}

/// Writes this thread's two rows of a box, `sums` of its columns, as the copy's swizzle wants it:
/// the 16-byte pieces of a row are exchanged by the row's number modulo 8. Pairs of BF16 meet no
/// bank twice; pairs of FP32 meet each twice.
template <class Result>
__device__ __forceinline__ void fill_box(unsigned char* box, const float* sums) {
  const int lane = lane_index();
  const int swizzle = lane / 4;  // the row modulo 8
  unsigned char* upper = box + (warp_index() % 4 * 16 + lane / 4) * kBoxBytes;
  unsigned char* lower = upper + 8 * kBoxBytes;
  if constexpr (std::is_same_v<Result, float>) {
#pragma unroll
    for (int j = 0; j < kBoxBytes / 32; ++j) {
      const int at = ((2 * j + lane % 4 / 2) ^ swizzle) * 16 + lane % 2 * 8;
      *reinterpret_cast<float2*>(upper + at) = make_float2(sums[4 * j], sums[4 * j + 1]);
      *reinterpret_cast<float2*>(lower + at) = make_float2(sums[4 * j + 2], sums[4 * j + 3]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kBoxBytes / 16; ++j) {
      const int at = (j ^ swizzle) * 16 + lane % 4 * 4;
      *reinterpret_cast<std::uint32_t*>(upper + at) = pack_bf16(sums[4 * j], sums[4 * j + 1]);
      *reinterpret_cast<std::uint32_t*>(lower + at) = pack_bf16(sums[4 * j + 2], sums[4 * j + 3]);
    }
  }
}

/// Stores 64 rows of `kColumns` accumulators at (row, column) of the window, or adds them to what
/// is there (FP32 only, rounded once). All threads of the warpgroup call; what lies outside of the
/// matrix is dropped. Barriers 1 and up are the warpgroups'.
template <class Result, int kColumns>
__device__ __forceinline__ void store_rows(ResultBoxes& boxes, const TensorMap& map,
                                           const float (&sums)[kColumns / 2], int row, int column,
                                           bool add) {
  constexpr int kBoxColumns = kBoxBytes / static_cast<int>(sizeof(Result));
  static_assert(kColumns / kBoxColumns % ResultBoxes::kCount == 0, "boxes are taken in turn");
  const int barrier = 1 + warpgroup_index();
  const bool issues = thread_index() % kWarpgroupSize == 0;
#pragma unroll
  for (int i = 0; i < kColumns / kBoxColumns; ++i) {
    unsigned char* box = boxes.box[i % ResultBoxes::kCount];
    if (issues) bulk_wait_read<ResultBoxes::kCount - 1>();
    named_barrier_sync(barrier, kWarpgroupSize);
    fill_box<Result>(box, sums + i * kBoxColumns / 2);
    fence_async_proxy();
    named_barrier_sync(barrier, kWarpgroupSize);
    if (issues) {
      if (add) {
        tma_reduce_add(map, box, column + i * kBoxColumns, row);
      } else {
        tma_store(map, box, column + i * kBoxColumns, row);
      }
      bulk_commit();
    }
  }
}

/// Before a consumer's end: its boxes have been read and its results are written.
__device__ __forceinline__ void finish_stores() {
  if (thread_index() % kWarpgroupSize == 0) bulk_wait<0>();
}

}  // namespace pipecast::kernels
