#include "kernels/head/mtp.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPieces = 4;  // 16-byte pieces of a thread: a row stays in registers
constexpr int kMostColumns = kThreads * kPieces * kBf16PerPiece;
constexpr int kBlocksPerSm = 4;
constexpr int kBackwardBlocksPerSm = 2;

struct SumShared {
  float partial[2][kWarps];
};

/// Sums of two numbers over the block, in every thread.
__device__ __forceinline__ float2 block_sums(SumShared& shared, float first, float second) {
  first = warp_sum(first);
  second = warp_sum(second);
  if (lane_index() == 0) {
    shared.partial[0][warp_index()] = first;
    shared.partial[1][warp_index()] = second;
  }
  __syncthreads();
  float2 sums = make_float2(0.0F, 0.0F);
  for (int warp = 0; warp < kWarps; ++warp) {
    sums.x += shared.partial[0][warp];
    sums.y += shared.partial[1][warp];
  }
  __syncthreads();
  return sums;
}

/// This thread's pieces of a row; zeros behind its end.
__device__ __forceinline__ void load_row(const int4* row, int pieces, int4 (&values)[kPieces]) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = i * kThreads + thread_index();
    values[i] = at < pieces ? load_streaming(row + at) : make_int4(0, 0, 0, 0);
  }
}

/// One half of the concatenation: its input and its weight.
struct NormHalf {
  const int4* input;
  const int4* weight;
};
struct NormHalves {
  NormHalf hidden;
  NormHalf embedding;
};

__global__ void __launch_bounds__(kThreads)
    mtp_concat_norm_kernel(NormHalves halves, int4* __restrict__ output, int tokens, int pieces,
                           float epsilon) {
  auto& shared = shared_memory<SumShared>();
  const auto columns = static_cast<float>(pieces * kBf16PerPiece);
  for (int item = block_index(); item < 2 * tokens; item += grid_size()) {
    const NormHalf half = item % 2 == 0 ? halves.hidden : halves.embedding;
    int4 values[kPieces];
    load_row(half.input + static_cast<std::int64_t>(item / 2) * pieces, pieces, values);
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      float x[kBf16PerPiece];
      unpack_bf16(values[i], x);
#pragma unroll
      for (int j = 0; j < kBf16PerPiece; ++j) squares = fmaf(x[j], x[j], squares);
    }
    const float scale = rsqrtf(block_sums(shared, squares, 0.0F).x / columns + epsilon);
    // Items are the halves of the output's rows, one after the other.
    int4* to = output + static_cast<std::int64_t>(item) * pieces;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = i * kThreads + thread_index();
      if (at >= pieces) continue;
      float x[kBf16PerPiece];
      float weight[kBf16PerPiece];
      unpack_bf16(values[i], x);
      unpack_bf16(__ldg(half.weight + at), weight);
#pragma unroll
      for (int j = 0; j < kBf16PerPiece; ++j) x[j] *= scale * weight[j];
      to[at] = pack_piece(x);
    }
  }
}

struct NormGradients {
  const int4* output_grad;
  int4* hidden_grad;
  int4* embedding_grad;
  float* partial_sums;
};

/// A piece of the input, of the output's gradient and of the weight.
struct NormPiece {
  float x[kBf16PerPiece];
  float slope[kBf16PerPiece];
  float weight[kBf16PerPiece];
};
__device__ __forceinline__ void open_piece(NormPiece& piece, const int4& x, const int4& slope,
                                           const int4& weight) {
  unpack_bf16(x, piece.x);
  unpack_bf16(slope, piece.slope);
  unpack_bf16(weight, piece.weight);
}

/// Blocks of even number work on the hidden half, odd ones on the embedding.
__global__ void __launch_bounds__(kThreads, kBackwardBlocksPerSm)
    mtp_concat_norm_bwd_kernel(NormHalves halves, NormGradients gradients, int tokens, int pieces,
                               float epsilon) {
  auto& shared = shared_memory<SumShared>();
  const auto columns = static_cast<float>(pieces * kBf16PerPiece);
  const int second = block_index() % 2;
  const NormHalf half = second == 0 ? halves.hidden : halves.embedding;
  int4* const input_grad = second == 0 ? gradients.hidden_grad : gradients.embedding_grad;
  float weight_grad[kPieces][kBf16PerPiece] = {};
  for (int token = block_index() / 2; token < tokens; token += grid_size() / 2) {
    const std::int64_t row = static_cast<std::int64_t>(token) * pieces;
    int4 values[kPieces];
    int4 slopes[kPieces];
    load_row(half.input + row, pieces, values);
    load_row(gradients.output_grad + 2 * row + second * pieces, pieces, slopes);
    NormPiece piece;
    float squares = 0.0F;
    float product = 0.0F;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = i * kThreads + thread_index();
      if (at >= pieces) continue;
      open_piece(piece, values[i], slopes[i], __ldg(half.weight + at));
#pragma unroll
      for (int j = 0; j < kBf16PerPiece; ++j) {
        squares = fmaf(piece.x[j], piece.x[j], squares);
        product = fmaf(piece.slope[j] * piece.weight[j], piece.x[j], product);
      }
    }
    const float2 sums = block_sums(shared, squares, product);
    const float scale = rsqrtf(sums.x / columns + epsilon);
    const float pull = scale * scale * scale * sums.y / columns;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = i * kThreads + thread_index();
      if (at >= pieces) continue;
      open_piece(piece, values[i], slopes[i], __ldg(half.weight + at));
#pragma unroll
      for (int j = 0; j < kBf16PerPiece; ++j) {
        weight_grad[i][j] = fmaf(piece.slope[j], piece.x[j] * scale, weight_grad[i][j]);
        piece.x[j] = fmaf(scale * piece.weight[j], piece.slope[j], -pull * piece.x[j]);
      }
      input_grad[row + at] = pack_piece(piece.x);
    }
  }
  float* partial =
      gradients.partial_sums + static_cast<std::int64_t>(block_index()) * pieces * kBf16PerPiece;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = i * kThreads + thread_index();
    if (at < pieces) store_fp32(partial + at * kBf16PerPiece, weight_grad[i]);
  }
}

/// Sum over the blocks of each half, in their order.
__global__ void __launch_bounds__(kThreads)
    mtp_weight_grad_kernel(const float* __restrict__ partial_sums, float* hidden, float* embedding,
                           int blocks, int columns) {
  for (int item = block_index() * kThreads + thread_index(); item < 2 * columns;
       item += grid_size() * kThreads) {
    const int half = item / columns;
    const int column = item % columns;
    float sum = 0.0F;
    for (int block = half; block < blocks; block += 2) {
      sum += __ldg(partial_sums + static_cast<std::int64_t>(block) * columns + column);
    }
    (half == 0 ? hidden : embedding)[column] = sum;
  }
}

void check_extents(const char* what, int tokens, int columns) {
  if (tokens < 0 || columns < 1 || columns % kBf16PerPiece != 0 || columns > kMostColumns) {
    throw DeviceError(std::string(what) + ": columns is a multiple of 8 and at most 8,192");
  }
}

const int4* pieces_of(const Bf16* values) { return reinterpret_cast<const int4*>(values); }
int4* pieces_of(Bf16* values) { return reinterpret_cast<int4*>(values); }

}  // namespace

void mtp_concat_norm(const MtpConcatNorm& p) {
  check_extents("mtp_concat_norm", p.tokens, p.columns);
  if (p.tokens == 0) return;
  launch(mtp_concat_norm_kernel,
         {persistent_grid(2 * static_cast<std::int64_t>(p.tokens), p.sms, kBlocksPerSm), kThreads,
          sizeof(SumShared)},
         NormHalves{{pieces_of(p.hidden), pieces_of(p.hidden_weight)},
                    {pieces_of(p.embedding), pieces_of(p.embedding_weight)}},
         pieces_of(p.output), p.tokens, p.columns / kBf16PerPiece, p.epsilon);
}

int mtp_partial_rows(int sms) { return (sms > 0 ? sms : device_sms()) * kBackwardBlocksPerSm; }

void mtp_concat_norm_bwd(const MtpConcatNormBackward& p) {
  check_extents("mtp_concat_norm_bwd", p.tokens, p.columns);
  const int blocks = mtp_partial_rows(p.sms);  // even, and all write their partial sums
  launch(mtp_concat_norm_bwd_kernel, {blocks, kThreads, sizeof(SumShared)},
         NormHalves{{pieces_of(p.hidden), pieces_of(p.hidden_weight)},
                    {pieces_of(p.embedding), pieces_of(p.embedding_weight)}},
         NormGradients{pieces_of(p.output_grad), pieces_of(p.hidden_grad),
                       pieces_of(p.embedding_grad), p.partial_sums},
         p.tokens, p.columns / kBf16PerPiece, p.epsilon);
  launch(mtp_weight_grad_kernel,
         {persistent_grid((2 * p.columns + kThreads - 1) / kThreads, p.sms, kBlocksPerSm), kThreads,
          0},
         p.partial_sums, p.hidden_weight_grad, p.embedding_weight_grad, blocks, p.columns);
}

}  // namespace pipecast::kernels
