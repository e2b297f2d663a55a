#include "kernels/attention/attention_decode.hpp"
#include "kernels/attention/tiles.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kTileHeads = kGroupRows;
constexpr int kGroups = 2;  // consumer warpgroups: half of the values each, the first one scores
constexpr int kCacheBoxes = kCacheWidth / kBoxColumns;
constexpr int kGroupColumns = kLatentWidth / kGroups;
constexpr int kGroupBoxes = kGroupColumns / kBoxColumns;
constexpr int kStages = 2;
constexpr int kSteps = kPageRows / kBf16Depth;
constexpr int kThreads = (kGroups + 1) * kWarpgroupSize;
constexpr int kConsumers = kGroups * kWarpgroupSize;
constexpr int kGroupWarps = kWarpgroupSize / kWarpSize;
constexpr int kBoxBytes = kPageRows * kBoxColumns * static_cast<int>(sizeof(Bf16));
constexpr int kCombineThreads = kLatentWidth / 4;

// Named barriers: the weights are written, they have been read, one per warpgroup alone.
constexpr int kWritten = 1;
constexpr int kRead = 2;
constexpr int kAlone = 3;

struct Shared {
  Bf16 query[kCacheBoxes][kTileHeads * kBoxColumns];
  Bf16 cache[kStages][kCacheBoxes][kPageRows * kBoxColumns];
  Bf16 weights[kTileHeads * kPageRows];  // a swizzled row of 64 positions for each head
  float factor[kTileHeads];              // of what was summed so far; at the end, of everything
  Mbarrier query_full;
  Mbarrier query_empty;
  Mbarrier cache_full[kStages];
  Mbarrier cache_empty[kStages];
};

/// All pages of all sequences, one behind the other, cut into parts.
struct Parts {
  int pages;
  int parts;
  __device__ __forceinline__ int begin(int part) const {
    return static_cast<int>(static_cast<std::int64_t>(pages) * part / parts);
  }
  __device__ __forceinline__ int part_of(int page) const {
    return static_cast<int>(((page + 1) * static_cast<std::int64_t>(parts) - 1) / pages);
  }
};

PIPECAST_HOST_DEVICE int head_tiles(int heads) { return (heads + kTileHeads - 1) / kTileHeads; }

/// Pages of one sequence that one part has.
struct Piece {
  int sequence;
  int first_page;  // of the sequence
  int pages;
  int positions;  // of the sequence from the first page on
  bool whole;     // no other part has pages of the sequence
  int slot;       // in the arrays of parts, where it has not all
};

/// Calls `visit` with the pieces of a part.
template <class Visit>
__device__ __forceinline__ void for_each_piece(const AttentionDecode& p, const Parts& parts,
                                               int part, const Visit& visit) {
  const int begin = parts.begin(part);
  const int end = parts.begin(part + 1);
  if (begin == end) return;
  // The last sequence that begins at or before the part: empty ones begin where the next does.
  int sequence = 0;
  for (int above = p.sequences; above - sequence > 1;) {
    const int middle = (sequence + above) / 2;
    (__ldg(p.first_pages + middle) <= begin ? sequence : above) = middle;
  }
#pragma unroll 1
  for (int page = begin; page < end; ++sequence) {
    const int first = __ldg(p.first_pages + sequence);
    const int next = __ldg(p.first_pages + sequence + 1);
    if (next <= page) continue;
    const int stop = next < end ? next : end;
    visit(Piece{sequence, page - first, stop - page,
                __ldg(p.lengths + sequence) - (page - first) * kPageRows,
                page == first && stop == next, 2 * part + (page == begin ? 0 : 1)});
    page = stop;
  }
}

/// First page of every sequence in the list of all, and the end of the last. One warp.
__global__ void __launch_bounds__(kWarpSize)
    attention_decode_schedule_kernel(const __grid_constant__ AttentionDecode p) {
  int total = 0;
  for (int base = 0; base < p.sequences; base += kWarpSize) {
    const int sequence = base + lane_index();
    const int pages =
        sequence < p.sequences ? (__ldg(p.lengths + sequence) + kPageRows - 1) / kPageRows : 0;
    int before = pages;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, before, distance);
      if (lane_index() >= distance) before += other;
    }
    if (sequence < p.sequences) p.first_pages[sequence] = total + before - pages;
    total += __shfl_sync(kAllLanes, before, kWarpSize - 1);
  }
  if (lane_index() == 0) p.first_pages[p.sequences] = total;
}

__device__ __forceinline__ void produce(Shared& shared, const TensorMap& query,
                                        const TensorMap& cache, const AttentionDecode& p,
                                        const Parts& parts, int part, int tile) {
  TileRing<kStages> ring;
  int piece_parity = 1;
  for_each_piece(p, parts, part, [&](const Piece& piece) {
    mbarrier_wait(&shared.query_empty, piece_parity);
    piece_parity ^= 1;
    mbarrier_expect(&shared.query_full, kCacheBoxes * kBoxBytes);
    const int row = piece.sequence * p.heads + tile * kTileHeads;
    for (int box = 0; box < kCacheBoxes; ++box) {
      tma_load(shared.query[box], query, box * kBoxColumns, row, &shared.query_full);
    }
    const int* pages =
        p.page_table + static_cast<std::int64_t>(piece.sequence) * p.table_width + piece.first_page;
#pragma unroll 1
    for (int page = 0; page < piece.pages; ++page) {
      const int cached = __ldg(pages + page) * kPageRows;
      mbarrier_wait(&shared.cache_empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&shared.cache_full[ring.stage], kCacheBoxes * kBoxBytes);
      for (int box = 0; box < kCacheBoxes; ++box) {
        tma_load(shared.cache[ring.stage][box], cache, box * kBoxColumns, cached,
                 &shared.cache_full[ring.stage]);
      }
      ring.step();
    }
  });
}

__device__ __forceinline__ void release(Mbarrier* bar) {
  __syncwarp();
  if (lane_index() == 0) mbarrier_arrive(bar);
}

/// The thread's first row of accumulators; the second is 8 further.
__device__ __forceinline__ int thread_row() { return warp_index() % 4 * 16 + lane_index() / 4; }

__device__ __forceinline__ void scale_rows(float (&o)[kGroupColumns / 2],
                                           const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kGroupColumns / 2; i += 4) {
    o[i] *= factor[0];
    o[i + 1] *= factor[0];
    o[i + 2] *= factor[1];
    o[i + 3] *= factor[1];
  }
}

/// Silences the group's values behind the end of the sequence, which has `positions` in this page.
__device__ __forceinline__ void zero_tail(Shared& shared, int stage, int group, int positions) {
  if (positions >= kPageRows) return;
  zero_rows(shared.cache[stage][group * kGroupBoxes], kGroupBoxes, kPageRows, positions);
  fence_async_proxy();
  named_barrier_sync(kAlone + group, kWarpgroupSize);
}

/// The group's half of a piece's output: BF16 where the piece is a whole sequence, else FP32.
__device__ __forceinline__ void store_output(const AttentionDecode& p, const Piece& piece, int tile,
                                             int group, float (&o)[kGroupColumns / 2],
                                             const float (&factor)[2]) {
  const int heads = p.heads - tile * kTileHeads;
  if (piece.whole) {
    const std::int64_t row =
        static_cast<std::int64_t>(piece.sequence) * p.heads + tile * kTileHeads;
    store_accumulators(o, factor, p.output + row * kLatentWidth + group * kGroupColumns,
                       kLatentWidth, heads);
    return;
  }
  const std::int64_t row =
      (static_cast<std::int64_t>(piece.slot) * head_tiles(p.heads) + tile) * kTileHeads +
      thread_row();
  float* out = p.part_outputs + row * kLatentWidth + group * kGroupColumns + lane_index() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (thread_row() + 8 * half >= heads) continue;
#pragma unroll
    for (int i = 0; i < kGroupColumns / 8; ++i) {
      *reinterpret_cast<float2*>(out + half * 8 * kLatentWidth + 8 * i) =
          make_float2(o[4 * i + 2 * half] * factor[half], o[4 * i + 2 * half + 1] * factor[half]);
    }
  }
}

/// Scores, softmax, and the first half of the values.
__device__ __forceinline__ void score(Shared& shared, const AttentionDecode& p, const Parts& parts,
                                      int part, int tile) {
  TileRing<kStages> ring;
  int piece_parity = 0;
  for_each_piece(p, parts, part, [&](const Piece& piece) {
    float o[kGroupColumns / 2];
#pragma unroll
    for (int i = 0; i < kGroupColumns / 2; ++i) o[i] = 0.0F;
    OnlineSoftmax softmax;
    float factor[2];
    mbarrier_wait(&shared.query_full, piece_parity);
    piece_parity ^= 1;
#pragma unroll 1
    for (int page = 0; page < piece.pages; ++page) {
      const int positions = piece.positions - page * kPageRows;
      mbarrier_wait(&shared.cache_full[ring.stage], ring.parity);
      zero_tail(shared, ring.stage, 0, positions);
      float s[kPageRows / 2];
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kCacheWidth; k += kBf16Depth) {
        const int box = k / kBoxColumns;
        wgmma_bf16<kPageRows, Major::kK, Major::kK>(
            s, k_major(shared.query[box] + k % kBoxColumns),
            k_major(shared.cache[ring.stage][box] + k % kBoxColumns), k != 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
      if (positions < kPageRows) {
#pragma unroll
        for (int i = 0; i < kPageRows / 2; ++i) {
          const int column = i / 4 * 8 + i % 2 + lane_index() % 4 * 2;
          s[i] = column < positions ? s[i] : -kInfinity;
        }
      }
      softmax.update(s, p.scale * kLog2E, factor);
      std::uint32_t weights[kSteps][4];
      to_fragments(s, weights);
      named_barrier_sync(kRead, kConsumers);
      auto* words = reinterpret_cast<std::uint32_t*>(shared.weights);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          const int row = thread_row() + word % 2 * 8;
          const int position = (2 * step + word / 2) ^ (row % 8);  // of 16 bytes, swizzled
          words[row * kPageRows / 2 + position * 4 + lane_index() % 4] = weights[step][word];
        }
      }
      if (lane_index() % 4 == 0) {
        shared.factor[thread_row()] = factor[0];
        shared.factor[thread_row() + 8] = factor[1];
      }
      fence_async_proxy();
      named_barrier_arrive(kWritten, kConsumers);
      scale_rows(o, factor);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        wgmma_bf16_registers<kGroupColumns, Major::kMN>(
            o, weights[step],
            mn_major(shared.cache[ring.stage][0] + step * kBf16Depth * kBoxColumns, kBoxBytes),
            true);
      }
      wgmma_commit();
      wgmma_wait<0>();
      release(&shared.cache_empty[ring.stage]);
      ring.step();
    }
    release(&shared.query_empty);
    float log_sum_exp[2];
    softmax.finish(p.scale, factor, log_sum_exp);
    named_barrier_sync(kRead, kConsumers);
    if (lane_index() % 4 == 0) {
      const std::int64_t first =
          piece.whole
              ? static_cast<std::int64_t>(piece.sequence) * p.heads + tile * kTileHeads
              : (static_cast<std::int64_t>(piece.slot) * head_tiles(p.heads) + tile) * kTileHeads;
      float* out = (piece.whole ? p.log_sum_exp : p.part_log_sum_exps) + first;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = thread_row() + 8 * half;
        shared.factor[row] = factor[half];
        if (tile * kTileHeads + row < p.heads) out[row] = log_sum_exp[half];
      }
    }
    named_barrier_arrive(kWritten, kConsumers);
    store_output(p, piece, tile, 0, o, factor);
  });
}

/// The other half of the values, with weights from shared memory.
__device__ __forceinline__ void follow(Shared& shared, const AttentionDecode& p, const Parts& parts,
                                       int part, int tile) {
  TileRing<kStages> ring;
  named_barrier_arrive(kRead, kConsumers);
  for_each_piece(p, parts, part, [&](const Piece& piece) {
    float o[kGroupColumns / 2];
#pragma unroll
    for (int i = 0; i < kGroupColumns / 2; ++i) o[i] = 0.0F;
#pragma unroll 1
    for (int page = 0; page < piece.pages; ++page) {
      mbarrier_wait(&shared.cache_full[ring.stage], ring.parity);
      zero_tail(shared, ring.stage, 1, piece.positions - page * kPageRows);
      named_barrier_sync(kWritten, kConsumers);
      const float factor[2] = {shared.factor[thread_row()], shared.factor[thread_row() + 8]};
      scale_rows(o, factor);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const Bf16* values = shared.cache[ring.stage][kGroupBoxes];
        wgmma_bf16<kGroupColumns, Major::kK, Major::kMN>(
            o, k_major(shared.weights + step * kBf16Depth),
            mn_major(values + step * kBf16Depth * kBoxColumns, kBoxBytes), true);
      }
      wgmma_commit();
      wgmma_wait<0>();
      named_barrier_arrive(kRead, kConsumers);
      release(&shared.cache_empty[ring.stage]);
      ring.step();
    }
    named_barrier_sync(kWritten, kConsumers);
    const float factor[2] = {shared.factor[thread_row()], shared.factor[thread_row() + 8]};
    named_barrier_arrive(kRead, kConsumers);
    store_output(p, piece, tile, 1, o, factor);
  });
}

__global__ void __launch_bounds__(kThreads, 1)
    attention_decode_kernel(const __grid_constant__ TensorMap query,
                            const __grid_constant__ TensorMap cache,
                            const __grid_constant__ AttentionDecode p) {
  auto& shared = shared_memory<Shared>();
  if (thread_index() == 0) {
    mbarrier_init(&shared.query_full, 1);
    mbarrier_init(&shared.query_empty, kGroupWarps);
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(&shared.cache_full[stage], 1);
      mbarrier_init(&shared.cache_empty[stage], kGroups * kGroupWarps);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  // Blocks of the same pages are neighbours: the second one finds them in the L2.
  const int tiles = head_tiles(p.heads);
  const int tile = block_index() % tiles;
  const int part = block_index() / tiles;
  const Parts parts{__ldg(p.first_pages + p.sequences), grid_size() / tiles};
  if (warpgroup_index() == kGroups) {
    fewer_registers<24>();
    if (thread_index() % kWarpgroupSize == 0) {
      produce(shared, query, cache, p, parts, part, tile);
    }
  } else {
    more_registers<240>();
    if (warpgroup_index() == 0) {
      score(shared, p, parts, part, tile);
    } else {
      follow(shared, p, parts, part, tile);
    }
  }
}

/// Sums the parts of sequences that were cut, and fills in what empty sequences give: a block per
/// sequence and head.
__global__ void __launch_bounds__(kCombineThreads)
    attention_decode_combine_kernel(const __grid_constant__ AttentionDecode p, int part_count) {
  const Parts parts{__ldg(p.first_pages + p.sequences), part_count};
  for (int item = block_index(); item < p.sequences * p.heads; item += grid_size()) {
    const int sequence = item / p.heads;
    const int head = item % p.heads;
    const int begin = __ldg(p.first_pages + sequence);
    const int end = __ldg(p.first_pages + sequence + 1);
    const int first = begin < end ? parts.part_of(begin) : 0;
    const int last = begin < end ? parts.part_of(end - 1) : -1;
    if (first == last) continue;
    const auto row_of = [&](int part) {
      const int slot = 2 * part + (parts.begin(part) >= begin ? 0 : 1);
      const int tile = slot * head_tiles(p.heads) + head / kTileHeads;
      return static_cast<std::int64_t>(tile) * kTileHeads + head % kTileHeads;
    };
    const auto is_empty = [&](int part) { return parts.begin(part) == parts.begin(part + 1); };
    float highest = -kInfinity;
    for (int part = first; part <= last; ++part) {
      if (!is_empty(part)) highest = fmaxf(highest, __ldg(p.part_log_sum_exps + row_of(part)));
    }
    const float base = highest == -kInfinity ? 0.0F : highest;
    float sum = 0.0F;
    float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    for (int part = first; part <= last; ++part) {
      if (is_empty(part)) continue;
      const std::int64_t row = row_of(part);
      const float weight = exp2_fast((__ldg(p.part_log_sum_exps + row) - base) * kLog2E);
      const float4 values = __ldg(reinterpret_cast<const float4*>(p.part_outputs) +
                                  row * kCombineThreads + thread_index());
      sum += weight;
      total = make_float4(fmaf(weight, values.x, total.x), fmaf(weight, values.y, total.y),
                          fmaf(weight, values.z, total.z), fmaf(weight, values.w, total.w));
    }
    const float factor = sum == 0.0F ? 0.0F : 1.0F / sum;
    reinterpret_cast<uint2*>(
        p.output)[static_cast<std::int64_t>(item) * kCombineThreads + thread_index()] =
        make_uint2(pack_bf16(total.x * factor, total.y * factor),
                   pack_bf16(total.z * factor, total.w * factor));
    if (thread_index() == 0) p.log_sum_exp[item] = sum == 0.0F ? -kInfinity : base + logf(sum);
  }
}

int parts_of(int heads, int sms) {
  const int parts = (sms > 0 ? sms : device_sms()) / head_tiles(heads);
  return parts > 0 ? parts : 1;
}

}  // namespace

AttentionDecodeWorkspace attention_decode_workspace(int sequences, int heads, int sms) {
  const std::size_t rows = 2 * static_cast<std::size_t>(parts_of(heads, sms)) *
                           static_cast<std::size_t>(head_tiles(heads) * kTileHeads);
  return {static_cast<std::size_t>(sequences) + 1, rows * kLatentWidth, rows};
}

void attention_decode(const AttentionDecode& p) {
  if (p.heads <= 0 || p.sequences < 0 || p.pages < 0 || p.table_width < 0 || !(p.scale > 0.0F)) {
    throw DeviceError("attention_decode: heads and the scale are positive");
  }
  if (p.sequences == 0) return;
  const auto window = [](const Bf16* base, std::int64_t rows) {
    return make_tensor_map({base, Element::kBf16, rows, kCacheWidth, kCacheWidth, kPageRows,
                            kBoxColumns, Swizzle::k128Bytes});
  };
  const int parts = parts_of(p.heads, p.sms);
  launch(attention_decode_schedule_kernel, {1, kWarpSize, 0}, p);
  const TensorMap query = window(p.query, static_cast<std::int64_t>(p.sequences) * p.heads);
  // Without pages their map is never read: any valid one will do.
  launch(attention_decode_kernel, {parts * head_tiles(p.heads), kThreads, sizeof(Shared)}, query,
         p.pages > 0 ? window(p.cache, static_cast<std::int64_t>(p.pages) * kPageRows) : query, p);
  constexpr int kBlocksPerSm = 16;
  const int resident = (p.sms > 0 ? p.sms : device_sms()) * kBlocksPerSm;
  const int items = p.sequences * p.heads;
  launch(attention_decode_combine_kernel, {items < resident ? items : resident, kCombineThreads, 0},
         p, parts);
}

}  // namespace pipecast::kernels
