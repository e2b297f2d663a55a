#include "kernels/activation/elementwise.hpp"
#include "kernels/quantise/streaming.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;
constexpr int kInFlight = 4;  // pieces of eight elements per thread and turn
constexpr int kPerTurn = kStreamingThreads * kInFlight;

/// Rows cut into pieces of eight elements, numbered along the rows.
struct Pieces {
  int of_row;
  int count;

  __device__ __forceinline__ int number(int first, int i) const {
    return first + i * kStreamingThreads + thread_index();
  }
  __device__ __forceinline__ int row(int number) const { return number / of_row; }
  __device__ __forceinline__ int column(int number) const { return number % of_row * kEight; }
};

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    copy_strided_kernel(CopyStrided p, Pieces pieces) {
  for (int first = block_index() * kPerTurn; first < pieces.count;
       first += grid_size() * kPerTurn) {
    int4 packed[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = pieces.number(first, i);
      if (number >= pieces.count) continue;
      packed[i] =
          load_once(p.source + pieces.row(number) * p.source_stride + pieces.column(number));
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = pieces.number(first, i);
      if (number >= pieces.count) continue;
      store_eight(p.destination + pieces.row(number) * p.destination_stride + pieces.column(number),
                  packed[i]);
    }
  }
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    elementwise_add_kernel(const Bf16* a, const Bf16* b, Bf16* sum, int count) {
  for (int first = block_index() * kPerTurn; first < count; first += grid_size() * kPerTurn) {
    int4 of_a[kInFlight];
    int4 of_b[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t number = first + i * kStreamingThreads + thread_index();
      if (number >= count) continue;
      of_a[i] = load_eight(a + number * kEight);
      of_b[i] = load_eight(b + number * kEight);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t number = first + i * kStreamingThreads + thread_index();
      if (number >= count) continue;
      EightFloats x = unpack(of_a[i]);
      const EightFloats y = unpack(of_b[i]);
#pragma unroll
      for (int j = 0; j < kEight; ++j) x.value[j] += y.value[j];
      store_eight(sum + number * kEight, pack(x));
    }
  }
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    elementwise_to_heads_kernel(ElementwiseHeads p, Pieces pieces) {
  for (int first = block_index() * kPerTurn; first < pieces.count;
       first += grid_size() * kPerTurn) {
    int4 packed[kInFlight];
    // Pieces of all heads of a row follow one another: the source's row comes from the L1.
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = pieces.number(first, i);
      if (number >= pieces.count) continue;
      packed[i] = load_eight(p.source + pieces.row(number) / p.heads * p.shared_stride +
                             pieces.column(number));
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int number = pieces.number(first, i);
      if (number >= pieces.count) continue;
      const int row = pieces.row(number);
      store_eight(p.result + row / p.heads * p.row_stride + row % p.heads * p.head_stride +
                      pieces.column(number),
                  packed[i]);
    }
  }
}

constexpr int kHeadsInFlight = 8;

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    elementwise_of_heads_kernel(ElementwiseHeads p, Pieces pieces) {
  for (int number = block_index() * kStreamingThreads + thread_index(); number < pieces.count;
       number += grid_size() * kStreamingThreads) {
    const Bf16* source = p.source + pieces.row(number) * p.row_stride + pieces.column(number);
    EightFloats sum{};
    for (int head = 0; head < p.heads; head += kHeadsInFlight) {
      int4 packed[kHeadsInFlight];
#pragma unroll
      for (int i = 0; i < kHeadsInFlight; ++i) {
        packed[i] = make_int4(0, 0, 0, 0);
        if (head + i < p.heads) packed[i] = load_once(source + (head + i) * p.head_stride);
      }
#pragma unroll
      for (int i = 0; i < kHeadsInFlight; ++i) {
        const EightFloats x = unpack(packed[i]);
#pragma unroll
        for (int j = 0; j < kEight; ++j) sum.value[j] += x.value[j];
      }
    }
    store_eight(p.result + pieces.row(number) * p.shared_stride + pieces.column(number), pack(sum));
  }
}

constexpr int kFour = 4;  // FP32 of sixteen bytes

__device__ __forceinline__ float sigmoid(float x) { return 1.0F / (1.0F + __expf(-x)); }

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    elementwise_sigmoid_kernel(const float* source, float* result, int count) {
  for (int first = block_index() * kPerTurn; first < count; first += grid_size() * kPerTurn) {
    float4 x[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t number = first + i * kStreamingThreads + thread_index();
      if (number < count) x[i] = *reinterpret_cast<const float4*>(source + number * kFour);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t number = first + i * kStreamingThreads + thread_index();
      if (number >= count) continue;
      *reinterpret_cast<float4*>(result + number * kFour) =
          make_float4(sigmoid(x[i].x), sigmoid(x[i].y), sigmoid(x[i].z), sigmoid(x[i].w));
    }
  }
}

Pieces pieces_of(std::int64_t rows, int columns, const char* kernel) {
  return {columns / kEight, checked_work(rows * (columns / kEight), kernel)};
}

void require_strides(std::int64_t a, std::int64_t b, std::int64_t c, const char* kernel) {
  if (a % kEight != 0 || b % kEight != 0 || c % kEight != 0) {
    throw DeviceError(std::string(kernel) + ": strides are multiples of 8 elements");
  }
}

LaunchShape turns_of(int count, int per_turn, int sms) {
  return {persistent_grid(ceil_quotient(count, per_turn), sms, kBlocksPerSm), kStreamingThreads, 0};
}

}  // namespace

void copy_strided(const CopyStrided& p) {
  require_eights(p.rows, p.columns, "copy_strided");
  require_strides(p.source_stride, p.destination_stride, 0, "copy_strided");
  const Pieces pieces = pieces_of(p.rows, p.columns, "copy_strided");
  if (pieces.count == 0) return;
  launch(copy_strided_kernel, turns_of(pieces.count, kPerTurn, p.sms), p, pieces);
}

void elementwise_add(const ElementwiseAdd& p) {
  require_eights(p.rows, p.columns, "elementwise_add");
  const int count = pieces_of(p.rows, p.columns, "elementwise_add").count;
  if (count == 0) return;
  launch(elementwise_add_kernel, turns_of(count, kPerTurn, p.sms), p.a, p.b, p.sum, count);
}

void elementwise_to_heads(const ElementwiseHeads& p) {
  require_eights(p.rows, p.columns, "elementwise_to_heads");
  require_strides(p.shared_stride, p.row_stride, p.head_stride, "elementwise_to_heads");
  const Pieces pieces =
      pieces_of(static_cast<std::int64_t>(p.rows) * p.heads, p.columns, "elementwise_to_heads");
  if (pieces.count == 0) return;
  launch(elementwise_to_heads_kernel, turns_of(pieces.count, kPerTurn, p.sms), p, pieces);
}

void elementwise_of_heads(const ElementwiseHeads& p) {
  require_eights(p.rows, p.columns, "elementwise_of_heads");
  require_strides(p.shared_stride, p.row_stride, p.head_stride, "elementwise_of_heads");
  const Pieces pieces = pieces_of(p.rows, p.columns, "elementwise_of_heads");
  if (pieces.count == 0) return;
  launch(elementwise_of_heads_kernel, turns_of(pieces.count, kStreamingThreads, p.sms), p, pieces);
}

void elementwise_sigmoid(const ElementwiseSigmoid& p) {
  require_eights(p.rows, p.columns, "elementwise_sigmoid");
  const int count =
      checked_work(static_cast<std::int64_t>(p.rows) * (p.columns / kFour), "elementwise_sigmoid");
  if (count == 0) return;
  launch(elementwise_sigmoid_kernel, turns_of(count, kPerTurn, p.sms), p.source, p.result, count);
}

}  // namespace pipecast::kernels
