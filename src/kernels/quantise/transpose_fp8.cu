#include "kernels/quantise/streaming.hpp"
#include "kernels/quantise/tile_scale.hpp"
#include "kernels/quantise/transpose_fp8.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;
constexpr int kSixteen = 16;                                             // codes of one access
constexpr int kPieces = kScaleTile / kSixteen;                           // of a row of a tile
constexpr int kRowsOfThread = kScaleTile * kPieces / kStreamingThreads;  // neighbours
constexpr int kWordsOfRow = kScaleTile / 4;

/// A tile of 128 x 128 codes, transposed. Word w of row r lies at w ^ 4 (r / 16 % 8), so that the
/// lanes of a warp meet no bank twice, neither with their words nor with their sixteen bytes.
struct Shared {
  unsigned words[kScaleTile * kWordsOfRow];
};
__device__ __forceinline__ int swizzled(int row, int word) {
  return row * kWordsOfRow + (word ^ 4 * (row / kSixteen));
}

/// Byte `place` of four words, as one word.
__device__ __forceinline__ unsigned bytes_at(const unsigned (&words)[kRowsOfThread], int place) {
  unsigned result = 0;
#pragma unroll
  for (int i = 0; i < kRowsOfThread; ++i) {
    result |= (words[i] >> 8 * place & 0xffU) << 8 * i;
  }
  return result;
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    transpose_fp8_kernel(const E4m3* __restrict__ codes, const float* __restrict__ scales,
                         E4m3* __restrict__ transposed, float* __restrict__ transposed_scales,
                         int rows, int columns) {
  auto& shared = shared_memory<Shared>();
  const int across = (columns + kScaleTile - 1) / kScaleTile;
  const int down = (rows + kScaleTile - 1) / kScaleTile;
  const int piece = thread_index() % kPieces;
  const int group = thread_index() / kPieces;
  for (int tile = block_index(); tile < across * down; tile += grid_size()) {
    const int top = tile / across * kScaleTile;
    const int left = tile % across * kScaleTile;
    uint4 in[kRowsOfThread];
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int row = top + group * kRowsOfThread + i;
      const int column = left + piece * kSixteen;
      in[i] = make_uint4(0, 0, 0, 0);
      if (row < rows && column < columns) {
        in[i] = *reinterpret_cast<const uint4*>(codes + static_cast<std::int64_t>(row) * columns +
                                                column);
      }
    }
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      unsigned four[kRowsOfThread];
#pragma unroll
      for (int i = 0; i < kRowsOfThread; ++i) {
        const unsigned words[4] = {in[i].x, in[i].y, in[i].z, in[i].w};
        four[i] = words[word];
      }
#pragma unroll
      for (int byte = 0; byte < 4; ++byte) {
        shared.words[swizzled(piece * kSixteen + word * 4 + byte, group)] = bytes_at(four, byte);
      }
    }
    if (thread_index() == 0) {
      transposed_scales[tile % across * down + tile / across] = __ldg(scales + tile);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int row = i * (kStreamingThreads / kPieces) + group;  // of the transposed tile
      const int column = piece * kSixteen;
      if (left + row < columns && top + column < rows) {
        *reinterpret_cast<uint4*>(transposed + static_cast<std::int64_t>(left + row) * rows + top +
                                  column) =
            *reinterpret_cast<const uint4*>(&shared.words[swizzled(row, piece * 4)]);
      }
    }
    __syncthreads();  // before the next tile
  }
}

constexpr int kScaleSquare = 32;
constexpr int kLinesAtOnce = kStreamingThreads / kScaleSquare;
constexpr int kLinesOfThread = kScaleSquare / kLinesAtOnce;

struct ScalesShared {
  float square[kScaleSquare][kScaleSquare + 1];  // one more: columns meet every bank once
};

__global__ void __launch_bounds__(kStreamingThreads)
    transpose_scales_kernel(const float* __restrict__ scales, float* __restrict__ transposed,
                            int rows, int tiles) {
  auto& shared = shared_memory<ScalesShared>();
  const int across = (tiles + kScaleSquare - 1) / kScaleSquare;
  const int squares = (rows + kScaleSquare - 1) / kScaleSquare * across;
  const int line = thread_index() / kScaleSquare;
  const int place = thread_index() % kScaleSquare;
  for (int square = block_index(); square < squares; square += grid_size()) {
    const int top = square / across * kScaleSquare;
    const int left = square % across * kScaleSquare;
#pragma unroll
    for (int i = 0; i < kLinesOfThread; ++i) {
      const int row = line + i * kLinesAtOnce;
      if (top + row < rows && left + place < tiles) {
        shared.square[row][place] =
            __ldg(scales + static_cast<std::int64_t>(top + row) * tiles + left + place);
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kLinesOfThread; ++i) {
      const int tile = line + i * kLinesAtOnce;
      if (top + place < rows && left + tile < tiles) {
        transposed[static_cast<std::int64_t>(left + tile) * rows + top + place] =
            shared.square[place][tile];
      }
    }
    __syncthreads();
  }
}

}  // namespace

void transpose_fp8(const TransposeFp8& p) {
  if (p.rows < 0 || p.columns < 0 || p.rows % kSixteen != 0 || p.columns % kSixteen != 0) {
    throw DeviceError("transpose_fp8: rows and columns are multiples of 16");
  }
  const std::int64_t tiles = static_cast<std::int64_t>(ceil_quotient(p.rows, kScaleTile)) *
                             ceil_quotient(p.columns, kScaleTile);
  if (tiles == 0) return;
  launch(transpose_fp8_kernel,
         {persistent_grid(checked_work(tiles, "transpose_fp8"), p.sms, kBlocksPerSm),
          kStreamingThreads, sizeof(Shared)},
         p.codes, p.scales, p.transposed, p.transposed_scales, p.rows, p.columns);
}

void transpose_scales(const TransposeScales& p) {
  if (p.rows < 0 || p.tiles < 0) throw DeviceError("transpose_scales: extents below zero");
  const std::int64_t squares = static_cast<std::int64_t>(ceil_quotient(p.rows, kScaleSquare)) *
                               ceil_quotient(p.tiles, kScaleSquare);
  if (squares == 0) return;
  constexpr int kSquaresPerSm = 8;
  launch(transpose_scales_kernel,
         {persistent_grid(checked_work(squares, "transpose_scales"), p.sms, kSquaresPerSm),
          kStreamingThreads, sizeof(ScalesShared)},
         p.scales, p.transposed, p.rows, p.tiles);
}

}  // namespace pipecast::kernels
