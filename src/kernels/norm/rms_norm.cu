#include "kernels/norm/rms_norm.hpp"
#include "kernels/quantise/streaming.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kWarps = kStreamingThreads / kWarpSize;
constexpr int kForwardBlocksPerSm = 4;

/// How a row is spread: so many lanes, a warp or the whole block, with at most so many pieces of
/// eight elements each.
template <int kLanesOfRow, int kPiecesOfLane>
struct RowShape {
  static constexpr int kLanes = kLanesOfRow;
  static constexpr int kPieces = kPiecesOfLane;
  static constexpr int kRowsOfBlock = kStreamingThreads / kLanes;
  static constexpr int kMostColumns = kLanes * kPieces * kEight;
};
using Narrow = RowShape<kWarpSize, 2>;        // the latent of keys and values: 512
using Wide = RowShape<kStreamingThreads, 4>;  // the hidden size: 7,168
// The latent of queries: 1,536. A warp has no registers for that many sums of the weight's
// gradient.
using ForwardMedium = RowShape<kWarpSize, 6>;
using BackwardMedium = RowShape<kStreamingThreads, 1>;

/// What the registers of an SM hold: a lane keeps three numbers per element of its pieces.
template <class Shape>
constexpr int backward_blocks_per_sm() {
  return Shape::kPieces == 1 ? 4 : Shape::kPieces == 2 ? 3 : 2;
}

struct RowSums {
  // By turns: who is still reading the last row's sums is not overtaken.
  float sums[2][2][kWarps];
};

/// Sums of two values over the lanes of a row, in every lane. `turn` counts the calls.
template <class Shape>
__device__ __forceinline__ float2 row_sums(RowSums& shared, float a, float b, int turn) {
  a = warp_sum(a);
  b = warp_sum(b);
  if constexpr (Shape::kLanes == kWarpSize) {
    return make_float2(a, b);
  } else {
    float(&sums)[2][kWarps] = shared.sums[turn % 2];
    if (lane_index() == 0) {
      sums[0][warp_index()] = a;
      sums[1][warp_index()] = b;
    }
    __syncthreads();
    float2 total = make_float2(0.0F, 0.0F);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      total.x += sums[0][warp];
      total.y += sums[1][warp];
    }
    return total;
  }
}

/// Column of a lane's piece i.
template <class Shape>
__device__ __forceinline__ int column_of_piece(int i) {
  return (i * Shape::kLanes + thread_index() % Shape::kLanes) * kEight;
}

template <class Shape>
__global__ void __launch_bounds__(kStreamingThreads, kForwardBlocksPerSm)
    rmsnorm_fwd_kernel(const Bf16* __restrict__ input, const Bf16* __restrict__ weight,
                       Bf16* __restrict__ output, float epsilon, int rows, int columns) {
  auto& shared = shared_memory<RowSums>();
  int turn = 0;
  for (int first = block_index() * Shape::kRowsOfBlock; first < rows;
       first += grid_size() * Shape::kRowsOfBlock) {
    const int row = first + thread_index() / Shape::kLanes;
    const std::int64_t start = static_cast<std::int64_t>(row) * columns;
    int4 packed[Shape::kPieces];
#pragma unroll
    for (int i = 0; i < Shape::kPieces; ++i) {
      const int column = column_of_piece<Shape>(i);
      packed[i] = make_int4(0, 0, 0, 0);
      if (row < rows && column < columns) packed[i] = load_once(input + start + column);
    }
    float square = 0.0F;
#pragma unroll
    for (int i = 0; i < Shape::kPieces; ++i) {
      const EightFloats x = unpack(packed[i]);
#pragma unroll
      for (int j = 0; j < kEight; ++j) square = fmaf(x.value[j], x.value[j], square);
    }
    square = row_sums<Shape>(shared, square, 0.0F, turn++).x;
    const float reciprocal = 1.0F / sqrtf(square / static_cast<float>(columns) + epsilon);
#pragma unroll
    for (int i = 0; i < Shape::kPieces; ++i) {
      const int column = column_of_piece<Shape>(i);
      if (row >= rows || column >= columns) continue;
      EightFloats x = unpack(packed[i]);
      const EightFloats w = unpack(load_eight(weight + column));
#pragma unroll
      for (int j = 0; j < kEight; ++j) x.value[j] = x.value[j] * reciprocal * w.value[j];
      store_eight(output + start + column, pack(x));
    }
  }
}

template <class Shape>
struct BackwardShared {
  RowSums row;
  // Where each warp has rows of its own, their sums of the weight's gradient.
  float of_warp[Shape::kLanes == kWarpSize ? kWarps : 1]
               [Shape::kLanes == kWarpSize ? Shape::kMostColumns : 1];
};

/// What a lane knows of a row: its pieces of the input and of the output's gradient.
template <class Shape>
struct RowPieces {
  int4 input[Shape::kPieces];
  int4 gradient[Shape::kPieces];
};

/// Input gradient of a row, and the lane's share of the weight's.
template <class Shape>
__device__ __forceinline__ void finish_row(const RowPieces<Shape>& row, const Bf16* weight,
                                           Bf16* input_gradient, float reciprocal, float mean,
                                           int columns, float (&sums)[Shape::kPieces][kEight]) {
#pragma unroll
  for (int i = 0; i < Shape::kPieces; ++i) {
    const int column = column_of_piece<Shape>(i);
    if (column >= columns) continue;
    const EightFloats x = unpack(row.input[i]);
    EightFloats dy = unpack(row.gradient[i]);
    const EightFloats w = unpack(load_eight(weight + column));
#pragma unroll
    for (int j = 0; j < kEight; ++j) {
      const float normed = x.value[j] * reciprocal;
      sums[i][j] = fmaf(dy.value[j], normed, sums[i][j]);
      dy.value[j] = reciprocal * (w.value[j] * dy.value[j] - normed * mean);
    }
    store_eight(input_gradient + column, pack(dy));
  }
}

/// The block's row of partial sums.
template <class Shape>
__device__ __forceinline__ void store_partial(BackwardShared<Shape>& shared,
                                              const float (&sums)[Shape::kPieces][kEight],
                                              float* partial, int columns) {
  constexpr bool kRowsOfWarps = Shape::kLanes == kWarpSize;
#pragma unroll
  for (int i = 0; i < Shape::kPieces; ++i) {
    const int column = column_of_piece<Shape>(i);
    if (column >= columns) continue;
    store_fp32(kRowsOfWarps ? &shared.of_warp[warp_index()][column] : partial + column, sums[i]);
  }
  if constexpr (kRowsOfWarps) {
    __syncthreads();
    for (int column = thread_index(); column < columns; column += kStreamingThreads) {
      float sum = 0.0F;
      for (int warp = 0; warp < kWarps; ++warp) sum += shared.of_warp[warp][column];
      partial[column] = sum;
    }
  }
}

template <class Shape>
__global__ void __launch_bounds__(kStreamingThreads, backward_blocks_per_sm<Shape>())
    rmsnorm_bwd_kernel(const Bf16* __restrict__ input, const Bf16* __restrict__ weight,
                       const Bf16* __restrict__ output_gradient, Bf16* __restrict__ input_gradient,
                       float* __restrict__ partial, float epsilon, int rows, int columns) {
  auto& shared = shared_memory<BackwardShared<Shape>>();
  float sums[Shape::kPieces][kEight] = {};
  int turn = 0;
  for (int first = block_index() * Shape::kRowsOfBlock; first < rows;
       first += grid_size() * Shape::kRowsOfBlock) {
    const int row = first + thread_index() / Shape::kLanes;
    const std::int64_t start = static_cast<std::int64_t>(row) * columns;
    RowPieces<Shape> pieces{};
#pragma unroll
    for (int i = 0; i < Shape::kPieces; ++i) {
      const int column = column_of_piece<Shape>(i);
      if (row < rows && column < columns) {
        pieces.input[i] = load_once(input + start + column);
        pieces.gradient[i] = load_once(output_gradient + start + column);
      }
    }
    float square = 0.0F;
    float product = 0.0F;  // of x and w dy
#pragma unroll
    for (int i = 0; i < Shape::kPieces; ++i) {
      const int column = column_of_piece<Shape>(i);
      if (column >= columns) continue;
      const EightFloats x = unpack(pieces.input[i]);
      const EightFloats dy = unpack(pieces.gradient[i]);
      const EightFloats w = unpack(load_eight(weight + column));
#pragma unroll
      for (int j = 0; j < kEight; ++j) {
        square = fmaf(x.value[j], x.value[j], square);
        product = fmaf(x.value[j], w.value[j] * dy.value[j], product);
      }
    }
    const float2 total = row_sums<Shape>(shared.row, square, product, turn++);
    const float width = static_cast<float>(columns);
    const float reciprocal = 1.0F / sqrtf(total.x / width + epsilon);
    if (row < rows) {
      finish_row<Shape>(pieces, weight, input_gradient + start, reciprocal,
                        total.y * reciprocal / width, columns, sums);
    }
  }
  store_partial<Shape>(shared, sums, partial + static_cast<std::int64_t>(block_index()) * columns,
                       columns);
}

constexpr int kFour = 4;  // FP32 of sixteen bytes
constexpr int kColumnsOfBlock = kWarpSize * kFour;

struct FinalizeShared {
  float4 sums[kWarps][kWarpSize];
};

__device__ __forceinline__ float4 sum_of(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/// Each warp adds every eighth row of its block's 128 columns, and the first warp adds the eight.
__global__ void __launch_bounds__(kStreamingThreads)
    rmsnorm_bwd_finalize_kernel(const float* __restrict__ partial,
                                float* __restrict__ weight_gradient, int partial_rows,
                                int columns) {
  auto& shared = shared_memory<FinalizeShared>();
  for (int first = block_index() * kColumnsOfBlock; first < columns;
       first += grid_size() * kColumnsOfBlock) {
    const int column = first + lane_index() * kFour;
    float4 sum = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    if (column < columns) {
#pragma unroll 8
      for (int row = warp_index(); row < partial_rows; row += kWarps) {
        sum = sum_of(sum, *reinterpret_cast<const float4*>(
                              partial + static_cast<std::int64_t>(row) * columns + column));
      }
    }
    shared.sums[warp_index()][lane_index()] = sum;
    __syncthreads();
    if (warp_index() == 0 && column < columns) {
      for (int warp = 1; warp < kWarps; ++warp) {
        sum = sum_of(sum, shared.sums[warp][lane_index()]);
      }
      *reinterpret_cast<float4*>(weight_gradient + column) = sum;
    }
    __syncthreads();  // before the next columns
  }
}

void require_columns(int rows, int columns, const char* kernel) {
  require_eights(rows, columns, kernel);
  if (columns > Wide::kMostColumns) {
    throw DeviceError(std::string(kernel) + ": at most 8192 columns");
  }
}

/// Calls `start` with the shape for rows of so many columns.
template <class Medium, class Start>
auto with_shape(int columns, const Start& start) {
  if (columns <= Narrow::kMostColumns) return start(Narrow{});
  if (columns <= Medium::kMostColumns) return start(Medium{});
  return start(Wide{});
}

template <class Shape>
int blocks_for(int rows, int sms, int per_sm) {
  return persistent_grid(ceil_quotient(rows, Shape::kRowsOfBlock), sms, per_sm);
}

}  // namespace

void rmsnorm_fwd(const RmsNorm& p) {
  require_columns(p.rows, p.columns, "rmsnorm_fwd");
  if (p.rows == 0) return;
  with_shape<ForwardMedium>(p.columns, [&](auto shape) {
    using Shape = decltype(shape);
    launch(
        rmsnorm_fwd_kernel<Shape>,
        {blocks_for<Shape>(p.rows, p.sms, kForwardBlocksPerSm), kStreamingThreads, sizeof(RowSums)},
        p.input, p.weight, p.output, p.epsilon, p.rows, p.columns);
  });
}

int rms_norm_partial_rows(int rows, int columns, int sms) {
  require_columns(rows, columns, "rmsnorm_bwd");
  return with_shape<BackwardMedium>(columns, [&](auto shape) {
    using Shape = decltype(shape);
    return blocks_for<Shape>(rows, sms, backward_blocks_per_sm<Shape>());
  });
}

void rmsnorm_bwd(const RmsNormBackward& p) {
  const int blocks = rms_norm_partial_rows(p.rows, p.columns, p.sms);
  if (blocks == 0) return;
  with_shape<BackwardMedium>(p.columns, [&](auto shape) {
    using Shape = decltype(shape);
    launch(rmsnorm_bwd_kernel<Shape>, {blocks, kStreamingThreads, sizeof(BackwardShared<Shape>)},
           p.input, p.weight, p.output_gradient, p.input_gradient, p.partial, p.epsilon, p.rows,
           p.columns);
  });
}

void rmsnorm_bwd_finalize(const RmsNormFinalize& p) {
  require_columns(p.partial_rows, p.columns, "rmsnorm_bwd_finalize");
  constexpr int kBlocksPerSm = 4;
  launch(rmsnorm_bwd_finalize_kernel,
         {persistent_grid(ceil_quotient(p.columns, kColumnsOfBlock), p.sms, kBlocksPerSm),
          kStreamingThreads, sizeof(FinalizeShared)},
         p.partial, p.weight_gradient, p.partial_rows, p.columns);
}

}  // namespace pipecast::kernels
