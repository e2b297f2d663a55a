#pragma once

/// What the attention kernels share: rings of tiles, the order of work, and how accumulators leave
/// the registers. Only for .cu files.
#include "kernels/attention/sequences.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {

constexpr int kBoxColumns = 64;             // BF16 of a swizzled box: 128 bytes
constexpr int kBf16Depth = 16;              // K of one BF16 wgmma
constexpr int kGroupRows = 64;              // M of a wgmma
constexpr int kL2Bytes = 32 * 1024 * 1024;  // of the H100's 50 MiB, what a group of heads may fill
constexpr float kLog2E = 1.4426950408889634F;

/// Position in a ring of stages.
template <int kStages>
struct TileRing {
  int stage = 0;
  int parity = 0;
  __device__ __forceinline__ void step() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The block's item of a round over a list that all blocks share: forth and back, so that a block
/// with a long item in one round has a short one in the next.
__device__ __forceinline__ int item_of_round(int round) {
  const int place = round % 2 == 0 ? block_index() : grid_size() - 1 - block_index();
  return round * grid_size() + place;
}

/// The same number in all lanes of a warp, told so to the compiler: addresses that depend on it then
/// need no registers of each thread.
__device__ __forceinline__ int uniform(int value) { return __shfl_sync(kAllLanes, value, 0); }

/// Extents of one sequence, in rows of the tensors.
struct SequencePlace {
  int first_query;
  int queries;
  int first_key;
  int keys;
};
__device__ __forceinline__ SequencePlace place_of(const AttentionSequences& all, int sequence) {
  const int first_query = __ldg(all.first_query + sequence);
  const int first_key = __ldg(all.first_key + sequence);
  return {first_query, __ldg(all.first_query + sequence + 1) - first_query, first_key,
          __ldg(all.first_key + sequence + 1) - first_key};
}

/// Writes zeros to rows [first, rows) of boxes of 128-byte rows, by one warpgroup: what a copy
/// brought in from behind the end of a sequence may be NaN, which a weight of 0 does not silence.
/// The swizzle stays within a row.
__device__ __forceinline__ void zero_rows(Bf16* boxes, int count, int rows, int first) {
  const int pieces = (rows - first) * 8;  // of 16 bytes, in each box
  for (int box = 0; box < count; ++box) {
    auto* out = reinterpret_cast<uint4*>(boxes + (box * rows + first) * kBoxColumns);
    for (int i = thread_index() % kWarpgroupSize; i < pieces; i += kWarpgroupSize) {
      out[i] = make_uint4(0, 0, 0, 0);
    }
  }
}

/// Lane q of a quad brings words (x, q) and leaves with (q, x), for x of 0 to 3.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4]) {
  const int quad_lane = lane_index() % 4;
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool upper = (quad_lane & bit) != 0;
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      if ((x & bit) != 0) continue;
      const std::uint32_t sent = upper ? words[x] : words[x | bit];
      const std::uint32_t received = __shfl_xor_sync(kAllLanes, sent, bit);
      words[x] = upper ? received : words[x];
      words[x | bit] = upper ? words[x | bit] : received;
    }
  }
}

/// Stores a warpgroup's accumulators, times a factor for each of the thread's two rows, as rows of
/// BF16: 64 contiguous bytes from each quad.
/// @param out   the first of the warpgroup's 64 rows
/// @param rows  how many of them exist
template <int kCount>
__device__ __forceinline__ void store_accumulators(const float (&d)[kCount],
                                                   const float (&factor)[2], Bf16* out,
                                                   std::int64_t stride, int rows) {
  const int row = warp_index() % 4 * 16 + lane_index() / 4;
#pragma unroll
  for (int i = 0; i < kCount; i += 16) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t words[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int at = i + 4 * x + 2 * half;
        words[x] = pack_bf16(d[at] * factor[half], d[at + 1] * factor[half]);
      }
      transpose_quad(words);
      if (row + 8 * half < rows) {
        *reinterpret_cast<uint4*>(out + (row + 8 * half) * stride + 2 * i +
                                  8 * (lane_index() % 4)) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

/// Accumulators as the fragments of a left operand: K runs over what were their columns.
template <int kSteps>
__device__ __forceinline__ void to_fragments(const float (&d)[8 * kSteps],
                                             std::uint32_t (&fragments)[kSteps][4]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      fragments[step][word] = pack_bf16(d[8 * step + 2 * word], d[8 * step + 2 * word + 1]);
    }
  }
}

/// Sum and maximum over the four lanes that share a row of accumulators.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}
__device__ __forceinline__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}

constexpr float kInfinity = __builtin_huge_valf();

/// Rows of an online softmax in base 2: each thread holds its part of the sums of two rows.
struct OnlineSoftmax {
  float maximum[2] = {-kInfinity, -kInfinity};  // of the unscaled logits
  float sum[2] = {0.0F, 0.0F};

  /// Makes weights of logits; what was summed so far is to be multiplied by `correction`.
  /// @param scale  of the logits, times log2(e)
  template <int kCount>
  __device__ __forceinline__ void update(float (&s)[kCount], float scale, float (&correction)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float highest = maximum[half];
#pragma unroll
      for (int i = 2 * half; i < kCount; i += 4) highest = fmaxf(highest, fmaxf(s[i], s[i + 1]));
      highest = quad_max(highest);
      // A row that has seen no key yet: any finite base gives weights of 0.
      const float base = highest == -kInfinity ? 0.0F : highest * scale;
      correction[half] = exp2_fast(maximum[half] * scale - base);
      maximum[half] = highest;
      float added = 0.0F;
#pragma unroll
      for (int i = 2 * half; i < kCount; i += 4) {
        s[i] = exp2_fast(fmaf(s[i], scale, -base));
        s[i + 1] = exp2_fast(fmaf(s[i + 1], scale, -base));
        added += s[i] + s[i + 1];
      }
      sum[half] = fmaf(sum[half], correction[half], added);
    }
  }

  /// What the weighted values are divided by, as a factor, and the logarithm of the sum of
  /// exponentials. @param scale  of the logits
  __device__ __forceinline__ void finish(float scale, float (&factor)[2], float (&log_sum_exp)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = quad_sum(sum[half]);
      factor[half] = total == 0.0F ? 0.0F : 1.0F / total;
      log_sum_exp[half] = total == 0.0F ? -kInfinity : maximum[half] * scale + logf(total);
    }
  }
};

}  // namespace pipecast::kernels
