#include "kernels/activation/swiglu.hpp"
#include "kernels/quantise/row_sources.hpp"
#include "kernels/quantise/transposed_tile.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 3;
constexpr int kInFlight = 2;  // outputs of eight elements per thread and turn
constexpr int kPerTurn = kStreamingThreads * kInFlight;

/// 1 / (1 + exp(-x)), with the special functions' exponential (2 units in the last place of FP32,
/// and 2^-22 |x|) and quotient: BF16 results need 2^-9.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0F, 1.0F + __expf(-x)); }
/// The product with -infinity would be 0 * infinity; the limit is 0.
__device__ __forceinline__ float silu(float x, float s) { return s == 0.0F ? 0.0F : x * s; }
__device__ __forceinline__ float silu_slope(float x, float s) {
  return s == 0.0F || s == 1.0F ? s : s * (1.0F + x * (1.0F - s));
}

__device__ __forceinline__ int4 swiglu(const int4& gate, const int4& up) {
  EightFloats g = unpack(gate);
  const EightFloats u = unpack(up);
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    g.value[i] = silu(g.value[i], sigmoid(g.value[i])) * u.value[i];
  }
  return pack(g);
}

/// Rows of outputs, computed from a source of gates and ups.
template <class Rows>
struct SwigluRows {
  Rows gate_up;
  int width;

  struct Piece {
    typename Rows::Piece gate;
    typename Rows::Piece up;
  };
  __device__ __forceinline__ Piece load(int row, int column) const {
    return {gate_up.load(row, column), gate_up.load(row, width + column)};
  }
  __device__ __forceinline__ int4 numbers(const Piece& piece) const {
    return swiglu(gate_up.numbers(piece.gate), gate_up.numbers(piece.up));
  }
};

/// Outputs of eight elements, numbered along the rows.
struct Outputs {
  int of_row;
  int count;

  __device__ __forceinline__ int number(int first, int i) const {
    return first + i * kStreamingThreads + thread_index();
  }
  __device__ __forceinline__ int row(int number) const { return number / of_row; }
  __device__ __forceinline__ int column(int number) const { return number % of_row * kEight; }
};

using Bf16Outputs = SwigluRows<Bf16Rows>;

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    swiglu_fwd_kernel(Bf16Outputs source, Bf16* __restrict__ output, Outputs outputs) {
  for (int first = block_index() * kPerTurn; first < outputs.count;
       first += grid_size() * kPerTurn) {
    Bf16Outputs::Piece pieces[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = outputs.number(first, i);
      if (number < outputs.count) {
        pieces[i] = source.load(outputs.row(number), outputs.column(number));
      }
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = outputs.number(first, i);
      if (number < outputs.count) {
        store_eight(output + static_cast<std::int64_t>(number) * kEight, source.numbers(pieces[i]));
      }
    }
  }
}

constexpr int kTilesOfTurn = kStreamingThreads / kTileLanes * kInFlight;

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    swiglu_fwd_and_cast_fp8_kernel(Bf16Outputs source, E4m3* __restrict__ codes,
                                   float* __restrict__ scales, TiledMatrix matrix,
                                   ScaleOrder order) {
  for (int first = block_index() * kTilesOfTurn; first < matrix.count;
       first += grid_size() * kTilesOfTurn) {
    TilePiece at[kInFlight];
    Bf16Outputs::Piece pieces[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      at[i] = matrix.piece(first, i);
      if (at[i].inside) pieces[i] = source.load(at[i].row, at[i].column);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int4 packed = at[i].inside ? source.numbers(pieces[i]) : make_int4(0, 0, 0, 0);
      store_tile(matrix, at[i], unpack(packed), codes, scales, order, false);
    }
  }
}

template <class Rows>
__global__ void __launch_bounds__(kStreamingThreads, kTransposeBlocksPerSm)
    swiglu_recompute_and_cast_transpose_kernel(SwigluRows<Rows> source, TransposedCodes out) {
  cast_transpose(source, out);
}

/// Where a backward pass writes.
struct BackwardTarget {
  Bf16* output;  // null: not wanted
  Bf16* gate_up_gradient;
};

/// What a thread loads for eight elements of the backward pass.
template <class Rows>
struct BackwardPiece {
  typename SwigluRows<Rows>::Piece inputs;
  int4 gradient;
  float weight;
};

template <class Rows, bool kWithOutput>
__device__ __forceinline__ void finish_backward(const SwigluRows<Rows>& source,
                                                const BackwardPiece<Rows>& piece, int row,
                                                int column, const BackwardTarget& target) {
  EightFloats gate = unpack(source.gate_up.numbers(piece.inputs.gate));
  EightFloats up = unpack(source.gate_up.numbers(piece.inputs.up));
  const EightFloats gradient = unpack(piece.gradient);
  EightFloats output;
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    const float x = gate.value[i];
    const float s = sigmoid(x);
    const float activated = silu(x, s);
    const float dy = gradient.value[i] * piece.weight;
    output.value[i] = activated * up.value[i];
    gate.value[i] = dy * up.value[i] * silu_slope(x, s);
    up.value[i] = dy * activated;
  }
  const std::int64_t start = static_cast<std::int64_t>(row) * source.width;
  if constexpr (kWithOutput) store_eight(target.output + start + column, pack(output));
  store_eight(target.gate_up_gradient + 2 * start + column, pack(gate));
  store_eight(target.gate_up_gradient + 2 * start + source.width + column, pack(up));
}

template <class Rows, bool kWithOutput>
__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    swiglu_bwd_kernel(SwigluRows<Rows> source, const Bf16* __restrict__ output_gradient,
                      const float* __restrict__ row_weight, BackwardTarget target,
                      Outputs outputs) {
  for (int first = block_index() * kPerTurn; first < outputs.count;
       first += grid_size() * kPerTurn) {
    BackwardPiece<Rows> pieces[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = outputs.number(first, i);
      if (number >= outputs.count) continue;
      const int row = outputs.row(number);
      pieces[i].inputs = source.load(row, outputs.column(number));
      pieces[i].gradient = load_once(output_gradient + static_cast<std::int64_t>(number) * kEight);
      pieces[i].weight = row_weight == nullptr ? 1.0F : __ldg(row_weight + row);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = outputs.number(first, i);
      if (number >= outputs.count) continue;
      finish_backward<Rows, kWithOutput>(source, pieces[i], outputs.row(number),
                                         outputs.column(number), target);
    }
  }
}

constexpr int kRowsOfBlock = kStreamingThreads / kWarpSize;
constexpr int kWeightPieces = 4;  // of either tensor per lane and turn

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    swiglu_weight_bwd_kernel(const Bf16* __restrict__ output,
                             const Bf16* __restrict__ output_gradient,
                             const int* __restrict__ choice_of_row,
                             float* __restrict__ weight_gradient, int rows, int width) {
  for (int row = block_index() * kRowsOfBlock + warp_index(); row < rows;
       row += grid_size() * kRowsOfBlock) {
    const int choice = __ldg(choice_of_row + row);
    if (choice < 0) continue;
    const std::int64_t start = static_cast<std::int64_t>(row) * width;
    float sum = 0.0F;
    for (int first = lane_index() * kEight; first < width;
         first += kWarpSize * kEight * kWeightPieces) {
      int4 y[kWeightPieces];
      int4 dy[kWeightPieces];
#pragma unroll
      for (int i = 0; i < kWeightPieces; ++i) {
        const int column = first + i * kWarpSize * kEight;
        y[i] = make_int4(0, 0, 0, 0);
        dy[i] = make_int4(0, 0, 0, 0);
        if (column < width) {
          y[i] = load_once(output + start + column);
          dy[i] = load_once(output_gradient + start + column);
        }
      }
#pragma unroll
      for (int i = 0; i < kWeightPieces; ++i) {
        const EightFloats a = unpack(y[i]);
        const EightFloats b = unpack(dy[i]);
#pragma unroll
        for (int j = 0; j < kEight; ++j) sum = fmaf(a.value[j], b.value[j], sum);
      }
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) weight_gradient[choice] = sum;
  }
}

Outputs outputs_of(int rows, int width, const char* kernel) {
  require_eights(rows, width, kernel);
  const int of_row = width / kEight;
  return {of_row, checked_work(static_cast<std::int64_t>(rows) * of_row, kernel)};
}

LaunchShape shape_of(const Outputs& outputs, int sms) {
  return {persistent_grid(ceil_quotient(outputs.count, kPerTurn), sms, kBlocksPerSm),
          kStreamingThreads, 0};
}

/// Calls `start` with the rows of gates and ups, in the format in which they were kept.
template <class Start>
void with_rows(const GateAndUp& kept, int rows, int width, const char* kernel, const Start& start) {
  if ((kept.values == nullptr) == (kept.codes == nullptr)) {
    throw DeviceError(std::string(kernel) + ": either BF16 rows or codes");
  }
  if (kept.values != nullptr) {
    start(SwigluRows<Bf16Rows>{{kept.values, 2 * width}, width});
  } else {
    start(SwigluRows<ScaledRows>{{kept.codes, kept.scales, kept.order, rows, 2 * width}, width});
  }
}

void backward(const SwigluBackward& p, const char* kernel) {
  const Outputs outputs = outputs_of(p.rows, p.width, kernel);
  with_rows(p.gate_up, p.rows, p.width, kernel, [&](const auto& source) {
    if (outputs.count == 0) return;
    launch(swiglu_bwd_kernel<decltype(source.gate_up), false>, shape_of(outputs, p.sms), source,
           p.output_gradient, static_cast<const float*>(nullptr),
           BackwardTarget{nullptr, p.gate_up_gradient}, outputs);
  });
}

}  // namespace

void swiglu_fwd(const Swiglu& p) {
  const Outputs outputs = outputs_of(p.rows, p.width, "swiglu_fwd");
  if (outputs.count == 0) return;
  launch(swiglu_fwd_kernel, shape_of(outputs, p.sms),
         Bf16Outputs{{p.gate_up, 2 * p.width}, p.width}, p.output, outputs);
}

void swiglu_fwd_and_cast_fp8(const SwigluCast& p) {
  const TiledMatrix matrix = tiled_matrix(p.rows, p.width, "swiglu_fwd_and_cast_fp8");
  if (matrix.count == 0) return;
  launch(swiglu_fwd_and_cast_fp8_kernel,
         {persistent_grid(ceil_quotient(matrix.count, kTilesOfTurn), p.sms, kBlocksPerSm),
          kStreamingThreads, 0},
         Bf16Outputs{{p.gate_up, 2 * p.width}, p.width}, p.codes, p.scales, matrix, p.order);
}

void swiglu_recompute_and_cast_transpose(const SwigluRecompute& p) {
  constexpr const char* kName = "swiglu_recompute_and_cast_transpose";
  require_eights(p.rows, p.width, kName);
  with_rows(p.gate_up, p.rows, p.width, kName, [&](const auto& source) {
    if (p.rows == 0) return;
    launch(swiglu_recompute_and_cast_transpose_kernel<decltype(source.gate_up)>,
           {transpose_blocks(p.rows, p.width, p.sms, kName), kStreamingThreads,
            sizeof(TransposeShared)},
           source, TransposedCodes{p.transposed, p.new_scales, p.rows, p.width});
  });
}

void swiglu_bwd(const SwigluBackward& p) { backward(p, "swiglu_bwd"); }
void swiglu_bwd_shared(const SwigluBackward& p) { backward(p, "swiglu_bwd_shared"); }

void swiglu_fwd_bwd_routed(const SwigluForwardBackward& p) {
  const Outputs outputs = outputs_of(p.rows, p.width, "swiglu_fwd_bwd_routed");
  if (outputs.count == 0) return;
  launch(swiglu_bwd_kernel<Bf16Rows, true>, shape_of(outputs, p.sms),
         Bf16Outputs{{p.gate_up, 2 * p.width}, p.width}, p.output_gradient, p.row_weight,
         BackwardTarget{p.output, p.gate_up_gradient}, outputs);
}

void swiglu_weight_bwd(const SwigluWeightBackward& p) {
  require_eights(p.rows, p.width, "swiglu_weight_bwd");
  if (p.rows == 0) return;
  launch(swiglu_weight_bwd_kernel,
         {persistent_grid(ceil_quotient(p.rows, kRowsOfBlock), p.sms, kBlocksPerSm),
          kStreamingThreads, 0},
         p.output, p.output_gradient, p.choice_of_row, p.weight_gradient, p.rows, p.width);
}

}  // namespace pipecast::kernels
