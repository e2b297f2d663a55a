#include <cmath>

#include "kernels/activation/rope.hpp"
#include "kernels/quantise/streaming.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;
constexpr int kHeadsInFlight = 4;  // a thread turns the same pairs of so many heads
constexpr int kPairs = kEight / 2;

struct RopeWork {
  int groups;  // of heads
  int pieces;  // of eight elements of a rotary part
  int count;
};

/// Cosines and sines of a piece's four pairs.
struct Turns {
  float cosine[kPairs];
  float sine[kPairs];
};

__device__ __forceinline__ Turns turns_of(const Rope& p, int row, int piece) {
  Turns turns;
  const int position = __ldg(p.positions + row);
  if (position < 0 || position >= p.table_positions) {
    for (int i = 0; i < kPairs; ++i) {
      turns.cosine[i] = float_of(0x7fc00000U);
      turns.sine[i] = float_of(0x7fc00000U);
    }
    return turns;
  }
  float pairs[kEight];
  load_fp32(p.table + static_cast<std::int64_t>(position) * p.width + piece * kEight, pairs);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    turns.cosine[i] = pairs[2 * i];
    turns.sine[i] = p.backward ? -pairs[2 * i + 1] : pairs[2 * i + 1];
  }
  return turns;
}

__device__ __forceinline__ EightFloats turned(const EightFloats& x, const Turns& turns) {
  EightFloats result;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const float even = x.value[2 * i];
    const float odd = x.value[2 * i + 1];
    result.value[2 * i] = even * turns.cosine[i] - odd * turns.sine[i];
    result.value[2 * i + 1] = even * turns.sine[i] + odd * turns.cosine[i];
  }
  return result;
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    rope_kernel(Rope p, RopeWork work) {
  for (int item = block_index() * kStreamingThreads + thread_index(); item < work.count;
       item += grid_size() * kStreamingThreads) {
    const int piece = item % work.pieces;
    const int head = item / work.pieces % work.groups * kHeadsInFlight;
    const int row = item / work.pieces / work.groups;
    Bf16* start = p.data + row * p.row_stride + head * p.head_stride + piece * kEight;
    int4 packed[kHeadsInFlight];
#pragma unroll
    for (int i = 0; i < kHeadsInFlight; ++i) {
      if (head + i < p.heads) packed[i] = load_eight(start + i * p.head_stride);
    }
    const Turns turns = turns_of(p, row, piece);
#pragma unroll
    for (int i = 0; i < kHeadsInFlight; ++i) {
      if (head + i < p.heads) {
        store_eight(start + i * p.head_stride, pack(turned(unpack(packed[i]), turns)));
      }
    }
  }
}

}  // namespace

void rope(const Rope& p) {
  require_eights(p.rows, p.width, "rope");
  if (p.heads < 0 || p.row_stride % kEight != 0 || p.head_stride % kEight != 0) {
    throw DeviceError("rope: strides are multiples of 8 elements");
  }
  const int groups = ceil_quotient(p.heads, kHeadsInFlight);
  const int pieces = p.width / kEight;
  const int count = checked_work(static_cast<std::int64_t>(p.rows) * groups * pieces, "rope");
  if (count == 0) return;
  launch(rope_kernel,
         {persistent_grid(ceil_quotient(count, kStreamingThreads), p.sms, kBlocksPerSm),
          kStreamingThreads, 0},
         p, RopeWork{groups, pieces, count});
}

std::vector<float> rope_table(int positions, int width, double base) {
  std::vector<float> table;
  table.reserve(static_cast<std::size_t>(positions) * static_cast<std::size_t>(width));
  for (int position = 0; position < positions; ++position) {
    for (int pair = 0; pair < width / 2; ++pair) {
      const double angle = position * std::pow(base, -2.0 * pair / width);
      table.push_back(static_cast<float>(std::cos(angle)));
      table.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

}  // namespace pipecast::kernels
