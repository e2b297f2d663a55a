#include "kernels/routing/permute.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kBlocksPerSm = 4;
constexpr int kChunk = 1024;  // choices that a block places at a time
constexpr int kInFlight = 4;  // 16-byte loads of a lane at a time
constexpr int kElementsPerScale = 128;

// ------------------------------------------------------------------------------------------------
// The map. A chunk's counts per expert first; then each chunk adds up those of the chunks before
// it. In both, thread e walks the chunk for expert e alone, which keeps the order without atomics.

struct MapExtents {
  int choices;
  int chunks;
  int experts;
  int alignment;
  int capacity;
};

struct MapShared {
  int4 chosen[kChunk / 4];
  int rows[kChunk];
  int warp_sums[kWarps];
};

/// Experts of a chunk into shared memory; -1 behind the last.
__device__ __forceinline__ void load_chunk(MapShared& shared, const int* chosen, int choices,
                                           int chunk) {
  auto* own = reinterpret_cast<int*>(shared.chosen);
  for (int i = thread_index(); i < kChunk; i += kThreads) {
    const int at = chunk * kChunk + i;
    own[i] = at < choices ? __ldg(chosen + at) : -1;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads)
    chunk_counts_kernel(const int* __restrict__ chosen, int* __restrict__ counts,
                        MapExtents extents) {
  auto& shared = shared_memory<MapShared>();
  for (int chunk = block_index(); chunk < extents.chunks; chunk += grid_size()) {
    load_chunk(shared, chosen, extents.choices, chunk);
    const int expert = thread_index();
    if (expert < extents.experts) {
      int count = 0;
      for (int i = 0; i < kChunk / 4; ++i) {
        const int4 four = shared.chosen[i];
        count += (four.x == expert ? 1 : 0) + (four.y == expert ? 1 : 0) +
                 (four.z == expert ? 1 : 0) + (four.w == expert ? 1 : 0);
      }
      counts[chunk * extents.experts + expert] = count;
    }
    __syncthreads();
  }
}

/// Sum of the values of all threads before this one.
__device__ __forceinline__ int block_exclusive_sum(MapShared& shared, int value) {
  int inclusive = value;
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane_index() >= distance) inclusive += before;
  }
  if (lane_index() == kWarpSize - 1) shared.warp_sums[warp_index()] = inclusive;
  __syncthreads();
  int sum = inclusive - value;
  for (int warp = 0; warp < warp_index(); ++warp) sum += shared.warp_sums[warp];
  return sum;
}

struct MapOutputs {
  int* row_of_choice;
  int* choice_of_row;
  int* first_row;
  int* counts;
};

/// The rows of one expert in the chunk, from `row` on.
__device__ __forceinline__ void place_expert(MapShared& shared, const MapOutputs& out,
                                             const MapExtents& extents, int chunk, int row) {
  const int expert = thread_index();
  for (int i = 0; i < kChunk / 4; ++i) {
    const int4 four = shared.chosen[i];
    const int chosen[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (chosen[j] != expert) continue;
      if (row < extents.capacity) {
        shared.rows[4 * i + j] = row;
        out.choice_of_row[row] = chunk * kChunk + 4 * i + j;
      }
      ++row;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    place_kernel(const int* __restrict__ chosen, const int* __restrict__ chunk_counts,
                 MapOutputs out, MapExtents extents) {
  auto& shared = shared_memory<MapShared>();
  const int expert = thread_index();
  for (int chunk = block_index(); chunk < extents.chunks; chunk += grid_size()) {
    load_chunk(shared, chosen, extents.choices, chunk);
    int before = 0;
    int count = 0;
    if (expert < extents.experts) {
      for (int other = 0; other < extents.chunks; ++other) {
        const int rows = __ldg(chunk_counts + other * extents.experts + expert);
        before += other < chunk ? rows : 0;
        count += rows;
      }
    }
    const int padded = (count + extents.alignment - 1) / extents.alignment * extents.alignment;
    const int first = block_exclusive_sum(shared, padded);
    for (int i = thread_index(); i < kChunk; i += kThreads) shared.rows[i] = -1;
    __syncthreads();
    if (expert < extents.experts) {
      place_expert(shared, out, extents, chunk, first + before);
      if (chunk == 0) {
        out.first_row[expert] = first;
        out.counts[expert] = count;
        for (int i = first + count; i < first + padded && i < extents.capacity; ++i) {
          out.choice_of_row[i] = -1;
        }
      }
    }
    int total = 0;
    for (const int sum : shared.warp_sums) total += sum;
    if (chunk == 0 && expert == 0) out.first_row[extents.experts] = total;
    for (int i = total + chunk * kThreads + thread_index(); i < extents.capacity;
         i += extents.chunks * kThreads) {
      out.choice_of_row[i] = -1;
    }
    __syncthreads();
    for (int i = thread_index(); i < kChunk; i += kThreads) {
      const int at = chunk * kChunk + i;
      if (at < extents.choices) out.row_of_choice[at] = shared.rows[i];
    }
    __syncthreads();
  }
}

// ------------------------------------------------------------------------------------------------
// Rows. One warp moves a token; lane k holds the place of choice k.

/// Places of one token: `rows` in lane k is that of choice k, `valid` has a bit for each.
struct TokenPlaces {
  int row;
  unsigned valid;
};

__device__ __forceinline__ TokenPlaces places_of(const RowPlaces& places, int token) {
  const bool own = lane_index() < places.top_k;
  const int row = own ? __ldg(places.row_of_choice +
                              static_cast<std::int64_t>(token) * places.top_k + lane_index())
                      : -1;
  return {row, __ballot_sync(kAllLanes, row >= 0)};
}

/// Zero in all rows of padding; `pieces` of 16 bytes to a row.
__device__ __forceinline__ void clear_padding(int4* rows, const RowPlaces& places, int pieces) {
  const int total = __ldg(places.rows) < places.capacity ? __ldg(places.rows) : places.capacity;
  const int warp = block_index() * kWarps + warp_index();
  for (int base = warp * kWarpSize; base < total; base += grid_size() * kThreads) {
    const int row = base + lane_index();
    unsigned padding =
        __ballot_sync(kAllLanes, row < total && __ldg(places.choice_of_row + row) < 0);
    while (padding != 0) {
      int4* to = rows + static_cast<std::int64_t>(base + take_lowest(padding)) * pieces;
      for (int i = lane_index(); i < pieces; i += kWarpSize) to[i] = make_int4(0, 0, 0, 0);
    }
  }
}

struct ScaleRows {
  const float* from;
  float* to;
  std::int64_t row_step;
  std::int64_t block_step;
  int blocks;  // of a row; 0: no scales
};

__global__ void __launch_bounds__(kThreads)
    permute_kernel(const int4* __restrict__ tokens, int4* __restrict__ rows, ScaleRows scales,
                   RowPlaces places, int pieces) {
  const int lane = lane_index();
  for (int token = block_index() * kWarps + warp_index(); token < places.tokens;
       token += grid_size() * kWarps) {
    const TokenPlaces own = places_of(places, token);
    if (own.valid == 0) continue;
    const int4* from = tokens + static_cast<std::int64_t>(token) * pieces;
    for (int base = 0; base < pieces; base += kInFlight * kWarpSize) {
      int4 values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kWarpSize + lane;
        if (at < pieces) values[i] = load_streaming(from + at);
      }
      for (unsigned rest = own.valid; rest != 0;) {
        const int row = __shfl_sync(kAllLanes, own.row, take_lowest(rest));
        int4* to = rows + static_cast<std::int64_t>(row) * pieces;
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          const int at = base + i * kWarpSize + lane;
          if (at < pieces) to[at] = values[i];
        }
      }
    }
    for (int base = 0; base < scales.blocks; base += kWarpSize) {
      const int block = base + lane;
      const float scale =
          block < scales.blocks
              ? __ldg(scales.from + static_cast<std::int64_t>(token) * scales.blocks + block)
              : 0.0F;
      for (unsigned rest = own.valid; rest != 0;) {
        const int row = __shfl_sync(kAllLanes, own.row, take_lowest(rest));
        if (block < scales.blocks) {
          scales.to[row * scales.row_step + block * scales.block_step] = scale;
        }
      }
    }
  }
  clear_padding(rows, places, pieces);
  if (scales.blocks == 0) return;
  const int total = __ldg(places.rows) < places.capacity ? __ldg(places.rows) : places.capacity;
  for (int row = block_index() * kThreads + thread_index(); row < total;
       row += grid_size() * kThreads) {
    if (__ldg(places.choice_of_row + row) >= 0) continue;
    for (int block = 0; block < scales.blocks; ++block) {
      scales.to[row * scales.row_step + block * scales.block_step] = 0.0F;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    unpermute_reduce_kernel(const int4* __restrict__ rows, const float* __restrict__ weights,
                            int4* __restrict__ tokens, RowPlaces places, int pieces) {
  const int lane = lane_index();
  for (int token = block_index() * kWarps + warp_index(); token < places.tokens;
       token += grid_size() * kWarps) {
    const TokenPlaces own = places_of(places, token);
    const float weight =
        weights != nullptr && own.row >= 0
            ? __ldg(weights + static_cast<std::int64_t>(token) * places.top_k + lane)
            : 1.0F;
    for (int base = 0; base < pieces; base += kWarpSize) {
      const int at = base + lane;
      float sum[kBf16PerPiece] = {};
      for (unsigned rest = own.valid; rest != 0;) {
        int4 values[kInFlight];
        float factors[kInFlight];
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          values[i] = make_int4(0, 0, 0, 0);
          factors[i] = 0.0F;
          if (rest == 0) continue;
          const int choice = take_lowest(rest);
          const int row = __shfl_sync(kAllLanes, own.row, choice);
          factors[i] = __shfl_sync(kAllLanes, weight, choice);
          if (at < pieces) {
            values[i] = load_streaming(rows + static_cast<std::int64_t>(row) * pieces + at);
          }
        }
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          float terms[kBf16PerPiece];
          unpack_bf16(values[i], terms);
#pragma unroll
          for (int j = 0; j < kBf16PerPiece; ++j) sum[j] = fmaf(factors[i], terms[j], sum[j]);
        }
      }
      if (at < pieces) tokens[static_cast<std::int64_t>(token) * pieces + at] = pack_piece(sum);
    }
  }
}

struct ReduceGradients {
  const int4* tokens_grad;
  const int4* rows;
  const float* weights;
  int4* rows_grad;
  float* weights_grad;
};

__global__ void __launch_bounds__(kThreads)
    unpermute_reduce_bwd_kernel(ReduceGradients p, RowPlaces places, int pieces) {
  const int lane = lane_index();
  for (int token = block_index() * kWarps + warp_index(); token < places.tokens;
       token += grid_size() * kWarps) {
    const TokenPlaces own = places_of(places, token);
    const std::int64_t choices = static_cast<std::int64_t>(token) * places.top_k;
    const float weight = own.row >= 0 ? __ldg(p.weights + choices + lane) : 0.0F;
    const int4* gradient = p.tokens_grad + static_cast<std::int64_t>(token) * pieces;
    float own_grad = 0.0F;  // lane k: of the weight of choice k
    for (unsigned rest = own.valid; rest != 0;) {
      // Up to four rows beside each other, so that the gradient is read once for them.
      int choice[kInFlight];
      std::int64_t row[kInFlight];
      float factor[kInFlight];
      float product[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        choice[i] = rest == 0 ? -1 : take_lowest(rest);
        const int source = choice[i] < 0 ? 0 : choice[i];
        row[i] = static_cast<std::int64_t>(__shfl_sync(kAllLanes, own.row, source)) * pieces;
        factor[i] = __shfl_sync(kAllLanes, weight, source);
        product[i] = 0.0F;
      }
      for (int at = lane; at < pieces; at += kWarpSize) {
        float slopes[kBf16PerPiece];
        unpack_bf16(__ldg(gradient + at), slopes);
        int4 values[kInFlight];
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          if (choice[i] >= 0) values[i] = load_streaming(p.rows + row[i] + at);
        }
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) {
          if (choice[i] < 0) continue;
          float terms[kBf16PerPiece];
          unpack_bf16(values[i], terms);
#pragma unroll
          for (int j = 0; j < kBf16PerPiece; ++j) {
            product[i] = fmaf(slopes[j], terms[j], product[i]);
            terms[j] = factor[i] * slopes[j];
          }
          p.rows_grad[row[i] + at] = pack_piece(terms);
        }
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const float sum = warp_sum(product[i]);
        if (lane == choice[i]) own_grad = sum;
      }
    }
    if (lane < places.top_k) p.weights_grad[choices + lane] = own_grad;
  }
  clear_padding(p.rows_grad, places, pieces);
}

/// Blocks of a kernel in which a warp moves a token; also where there are none, for the padding.
int row_grid(const RowPlaces& places, int sms) {
  const int blocks = (places.tokens + kWarps - 1) / kWarps;
  return persistent_grid(blocks > 0 ? blocks : 1, sms, kBlocksPerSm);
}

int chunks_of(int tokens, int top_k) {
  const int chunks = (tokens * top_k + kChunk - 1) / kChunk;
  return chunks > 0 ? chunks : 1;
}

void check_rows(const char* what, const RowPlaces& places, int columns, int multiple) {
  if (places.tokens < 0 || places.top_k < 1 || places.top_k > kWarpSize || columns < 1 ||
      columns % multiple != 0) {
    throw DeviceError(std::string(what) + ": at most 32 choices a token, columns a multiple of " +
                      std::to_string(multiple));
  }
}

const int4* pieces_of(const void* values) { return static_cast<const int4*>(values); }
int4* pieces_of(void* values) { return static_cast<int4*>(values); }

}  // namespace

std::size_t permute_map_workspace(int tokens, int top_k, int experts) {
  return static_cast<std::size_t>(chunks_of(tokens, top_k)) * static_cast<std::size_t>(experts);
}

void permute_map(const PermuteMap& p) {
  if (p.tokens < 0 || p.top_k < 1 || p.experts < 1 || p.experts > kThreads || p.alignment < 1 ||
      p.capacity < 0) {
    throw DeviceError("permute_map: 1 to 256 experts and an alignment of at least 1");
  }
  const MapExtents extents{p.tokens * p.top_k, chunks_of(p.tokens, p.top_k), p.experts, p.alignment,
                           p.capacity};
  const LaunchShape shape{persistent_grid(extents.chunks, p.sms, kBlocksPerSm), kThreads,
                          sizeof(MapShared)};
  launch(chunk_counts_kernel, shape, p.chosen, p.workspace, extents);
  launch(place_kernel, shape, p.chosen, p.workspace,
         MapOutputs{p.row_of_choice, p.choice_of_row, p.first_row, p.counts}, extents);
}

void permute(const Permute& p) {
  check_rows("permute", p.places, p.columns, kBf16PerPiece);
  launch(permute_kernel, {row_grid(p.places, p.sms), kThreads, 0}, pieces_of(p.tokens),
         pieces_of(p.rows), ScaleRows{nullptr, nullptr, 0, 0, 0}, p.places,
         p.columns / kBf16PerPiece);
}

void permute_with_scales(const PermuteWithScales& p) {
  check_rows("permute_with_scales", p.places, p.columns, kElementsPerScale);
  launch(permute_kernel, {row_grid(p.places, p.sms), kThreads, 0}, pieces_of(p.tokens),
         pieces_of(p.rows),
         ScaleRows{p.token_scales, p.row_scales, p.row_step, p.block_step,
                   p.columns / kElementsPerScale},
         p.places, p.columns / kBytesPerPiece);
}

void unpermute_reduce(const UnpermuteReduce& p) {
  check_rows("unpermute_reduce", p.places, p.columns, kBf16PerPiece);
  if (p.places.tokens == 0) return;
  launch(unpermute_reduce_kernel, {row_grid(p.places, p.sms), kThreads, 0}, pieces_of(p.rows),
         p.weights, pieces_of(p.tokens), p.places, p.columns / kBf16PerPiece);
}

void unpermute_reduce_bwd(const UnpermuteReduceBackward& p) {
  check_rows("unpermute_reduce_bwd", p.places, p.columns, kBf16PerPiece);
  launch(unpermute_reduce_bwd_kernel, {row_grid(p.places, p.sms), kThreads, 0},
         ReduceGradients{pieces_of(p.tokens_grad), pieces_of(p.rows), p.weights,
                         pieces_of(p.rows_grad), p.weights_grad},
         p.places, p.columns / kBf16PerPiece);
}

}  // namespace pipecast::kernels
