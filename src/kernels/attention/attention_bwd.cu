#include "kernels/attention/attention_bwd.hpp"
#include "kernels/attention/tiles.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kGroups = 2;                       // consumer warpgroups
constexpr int kTileKeys = kGroups * kGroupRows;  // that a block owns
constexpr int kTileQueries = 64;                 // of a turn
constexpr int kQueryBoxes = kQueryKeyWidth / kBoxColumns;
constexpr int kValueBoxes = kValueWidth / kBoxColumns;
constexpr int kStages = 2;
constexpr int kThreads = (kGroups + 1) * kWarpgroupSize;
constexpr int kConsumers = kGroups * kWarpgroupSize;
constexpr int kConsumerWarps = kConsumers / kWarpSize;
constexpr int kWriterWarp = kConsumerWarps + 1;  // the producer is the warp before it
constexpr int kQuerySteps = kTileQueries / kBf16Depth;
constexpr int kKeySteps = kTileKeys / kBf16Depth;
constexpr int kKeyBoxBytes = kTileKeys * kBoxColumns * static_cast<int>(sizeof(Bf16));
constexpr int kQueryBoxBytes = kTileQueries * kBoxColumns * static_cast<int>(sizeof(Bf16));
constexpr int kSumsOfTile = kTileQueries * kQueryKeyWidth;
constexpr int kStatistics = 2 * kTileQueries;  // of a tile: log-sum-exps in base 2, then row sums
constexpr int kStatisticsBytes = kStatistics * static_cast<int>(sizeof(float));
constexpr int kSumsBytes = kSumsOfTile * static_cast<int>(sizeof(float));

// Named barriers: both warpgroups have written dS; the other one has read it (one per warpgroup);
// one per warpgroup alone.
constexpr int kWritten = 1;
constexpr int kRead = 2;
constexpr int kAlone = kRead + kGroups;

struct Shared {
  Bf16 key[kQueryBoxes][kTileKeys * kBoxColumns];
  Bf16 value[kValueBoxes][kTileKeys * kBoxColumns];
  Bf16 query[kStages][kQueryBoxes][kTileQueries * kBoxColumns];
  Bf16 output_gradient[kStages][kValueBoxes][kTileQueries * kBoxColumns];
  Bf16 logit_gradient[kTileKeys * kTileQueries];  // a swizzled row of 64 queries for each key
  float query_sums[kQueryBoxes][kTileQueries * kBoxColumns];  // as accumulators lie
  float statistics[kStages][2][kTileQueries];
  Mbarrier tile_full;
  Mbarrier tile_empty;
  Mbarrier query_full[kStages];
  Mbarrier gradient_full[kStages];
  Mbarrier stage_empty[kStages];
  Mbarrier sums_full;
  Mbarrier sums_empty;
};

/// Where the tiles of 64 queries of a sequence begin in the arrays between the kernels.
__device__ __forceinline__ int first_tile_of(const SequencePlace& place, int sequence) {
  return place.first_query / kTileQueries + sequence;
}
PIPECAST_HOST_DEVICE int tiles_of(const AttentionSequences& all) {
  return all.queries / kTileQueries + all.sequences;
}

/// One item: 128 keys of a head.
struct Tile {
  int head;
  int keys;         // of the sequence
  int queries;      // of the sequence
  int first_key;    // row of the tensors where the sequence begins
  int first_query;  // the same
  int begin;        // the tile's first key in the sequence
  int seen;         // keys that the sequence's first query sees, one more for each after it
  int first_turn;   // the first tile of queries that sees one of these keys, and the end
  int end_turn;
  int query_tile;  // the sequence's first tile in the arrays between the kernels
};

__device__ __forceinline__ Tile tile_of(const AttentionSequences& all, int tiles, int item) {
  const int pair = item / tiles;
  const int sequence = pair / all.heads;
  const int head = pair % all.heads;
  const SequencePlace place = place_of(all, sequence);
  // Last keys first: they start at later queries, so whoever adds to dQ after them need not wait.
  const int begin = (tiles - 1 - item % tiles) * kTileKeys;
  const int seen = all.causal ? 1 + place.keys - place.queries : place.keys;
  const int first = all.causal ? begin + 1 - seen : 0;  // query that sees one of these keys
  const int end = (place.queries + kTileQueries - 1) / kTileQueries;
  return {head,
          place.keys,
          place.queries,
          place.first_key,
          place.first_query,
          begin,
          seen,
          first > 0 ? first / kTileQueries : 0,
          begin < place.keys ? end : 0,
          head * tiles_of(all) + first_tile_of(place, sequence)};
}

/// Calls `visit` with every tile of the block, in the order that all its warps share.
template <class Visit>
__device__ __forceinline__ void for_each_tile(const AttentionSequences& all, int tiles,
                                              const Visit& visit) {
  const int items = all.sequences * all.heads * tiles;
  for (int round = 0; round * grid_size() < items; ++round) {
    const int item = item_of_round(round);
    if (item >= items) continue;
    const Tile tile = tile_of(all, tiles, item);
    if (tile.begin < tile.keys) visit(tile);
  }
}

__device__ __forceinline__ void produce(Shared& shared, const TensorMap& query,
                                        const TensorMap& key, const TensorMap& value,
                                        const TensorMap& gradient, const AttentionBwd& p,
                                        int tiles) {
  TileRing<kStages> ring;
  int tile_parity = 1;
  for_each_tile(p.sequences, tiles, [&](const Tile& tile) {
    if (tile.first_turn >= tile.end_turn) return;
    mbarrier_wait(&shared.tile_empty, tile_parity);
    tile_parity ^= 1;
    mbarrier_expect(&shared.tile_full, (kQueryBoxes + kValueBoxes) * kKeyBoxBytes);
    const int keys = tile.first_key + tile.begin;
    const int column = tile.head * kQueryKeyWidth;
    const int value_column = tile.head * kValueWidth;
    for (int box = 0; box < kQueryBoxes; ++box) {
      tma_load(shared.key[box], key, column + box * kBoxColumns, keys, &shared.tile_full);
    }
    for (int box = 0; box < kValueBoxes; ++box) {
      tma_load(shared.value[box], value, value_column + box * kBoxColumns, keys, &shared.tile_full);
    }
#pragma unroll 1  // of 24 registers none is left to unroll
    for (int turn = tile.first_turn; turn < tile.end_turn; ++turn) {
      const int stage = ring.stage;
      const int row = tile.first_query + turn * kTileQueries;
      mbarrier_wait(&shared.stage_empty[stage], ring.parity ^ 1);
      mbarrier_expect(&shared.query_full[stage], kQueryBoxes * kQueryBoxBytes + kStatisticsBytes);
      for (int box = 0; box < kQueryBoxes; ++box) {
        tma_load(shared.query[stage][box], query, column + box * kBoxColumns, row,
                 &shared.query_full[stage]);
      }
      bulk_load(shared.statistics[stage],
                p.row_statistics + static_cast<std::int64_t>(tile.query_tile + turn) * kStatistics,
                kStatisticsBytes, &shared.query_full[stage]);
      mbarrier_expect(&shared.gradient_full[stage], kValueBoxes * kQueryBoxBytes);
      for (int box = 0; box < kValueBoxes; ++box) {
        tma_load(shared.output_gradient[stage][box], gradient, value_column + box * kBoxColumns,
                 row, &shared.gradient_full[stage]);
      }
      ring.step();
    }
  });
}

/// Adds what the consumers leave in shared memory to the sums of dQ, when it is this block's turn.
__device__ __forceinline__ void write_sums(Shared& shared, const AttentionBwd& p, int tiles) {
  int parity = 0;
  for_each_tile(p.sequences, tiles, [&](const Tile& tile) {
    // Keys that the last query of a tile sees, and how many blocks of them come before this one.
    const int slope = p.sequences.causal ? kTileQueries : 0;
    int sees =
        p.sequences.causal ? tile.seen + (tile.first_turn + 1) * kTileQueries - 1 : tile.keys;
    const int end = tile.query_tile + tile.end_turn;
#pragma unroll 1
    for (int place = tile.query_tile + tile.first_turn; place < end; ++place, sees += slope) {
      const int before = ((sees < tile.keys ? sees : tile.keys) - 1 - tile.begin) / kTileKeys;
      mbarrier_wait(&shared.sums_full, parity);
      parity ^= 1;
      wait_until_system(p.query_turns + place, static_cast<std::uint32_t>(before));
      bulk_add(p.query_sums + static_cast<std::int64_t>(place) * kSumsOfTile, shared.query_sums[0],
               kSumsBytes);
      bulk_commit();
      bulk_wait_read<0>();
      mbarrier_arrive(&shared.sums_empty);
      bulk_wait<0>();
      add_release_system(p.query_turns + place, 1);
    }
  });
}

/// D = A B^T with K along the rows of both: `A` of 64 rows, boxes of 64 columns.
template <int kBoxes>
__device__ __forceinline__ void issue_rows(float (&d)[kTileQueries / 2], const Bf16* a,
                                           int a_box_rows, const Bf16* b) {
#pragma unroll
  for (int box = 0; box < kBoxes; ++box) {
#pragma unroll
    for (int k = 0; k < kBoxColumns; k += kBf16Depth) {
      wgmma_bf16<kTileQueries, Major::kK, Major::kK>(
          d, k_major(a + box * a_box_rows * kBoxColumns + k),
          k_major(b + box * kTileQueries * kBoxColumns + k), box + k != 0);
    }
  }
  wgmma_commit();
}

/// dV += P^T dO.
__device__ __forceinline__ void issue_value_gradient(
    float (&d)[kValueWidth / 2], const std::uint32_t (&probabilities)[kQuerySteps][4],
    Shared& shared, int stage) {
#pragma unroll
  for (int step = 0; step < kQuerySteps; ++step) {
    const int at = step * kBf16Depth * kBoxColumns;
    wgmma_bf16_registers<kValueWidth, Major::kMN>(
        d, probabilities[step], mn_major(shared.output_gradient[stage][0] + at, kQueryBoxBytes),
        true);
  }
  wgmma_commit();
}

/// dK += dS^T Q.
__device__ __forceinline__ void issue_key_gradient(float (&d)[kQueryKeyWidth / 2], Shared& shared,
                                                   int stage, int group) {
  const Bf16* own = shared.logit_gradient + group * kGroupRows * kTileQueries;
#pragma unroll
  for (int step = 0; step < kQuerySteps; ++step) {
    const int at = step * kBf16Depth * kBoxColumns;
    wgmma_bf16<kQueryKeyWidth, Major::kK, Major::kMN>(
        d, k_major(own + step * kBf16Depth), mn_major(shared.query[stage][0] + at, kQueryBoxBytes),
        true);
  }
  wgmma_commit();
}

/// 64 columns of dS K over the block's keys.
__device__ __forceinline__ void issue_sums(float (&d)[kBoxColumns / 2], Shared& shared, int box) {
#pragma unroll
  for (int step = 0; step < kKeySteps; ++step) {
    const int at = step * kBf16Depth * kBoxColumns;
    wgmma_bf16<kBoxColumns, Major::kMN, Major::kMN>(
        d, mn_major(shared.logit_gradient + at, kKeyBoxBytes),
        mn_major(shared.key[box] + at, kKeyBoxBytes), step != 0);
  }
  wgmma_commit();
}

/// One warpgroup's keys, queries and places in the accumulators of S^T (keys by queries).
struct Lane {
  int group;
  int key;     // of the thread's first row, in the block
  int column;  // of the thread's first query
};

/// Probabilities of transposed logits. A key is hidden from queries before `first_query`.
__device__ __forceinline__ void exponentiate(float (&s)[kTileQueries / 2], const float* log_sum_exp,
                                             const Lane& lane, float scale2) {
#pragma unroll
  for (int i = 0; i < kTileQueries / 8; ++i) {
    const float2 row = *reinterpret_cast<const float2*>(log_sum_exp + 8 * i + lane.column);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      s[4 * i + 2 * half] = exp2_fast(fmaf(s[4 * i + 2 * half], scale2, -row.x));
      s[4 * i + 2 * half + 1] = exp2_fast(fmaf(s[4 * i + 2 * half + 1], scale2, -row.y));
    }
  }
}

/// @param hidden  queries of the tile that do not see the thread's first key, one more for each key
///                after it where `slope` is 1
/// @param keys    of the sequence, from the thread's first on
__device__ __forceinline__ void mask(float (&s)[kTileQueries / 2], const Lane& lane, int hidden,
                                     int slope, int keys) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int first = (8 * half < keys ? hidden + 8 * half * slope : kTileQueries) - lane.column;
#pragma unroll
    for (int i = 0; i < kTileQueries / 8; ++i) {
      s[4 * i + 2 * half] = 8 * i >= first ? s[4 * i + 2 * half] : 0.0F;
      s[4 * i + 2 * half + 1] = 8 * i + 1 >= first ? s[4 * i + 2 * half + 1] : 0.0F;
    }
  }
}

/// dS = P (dP - D), with P as it went into dV, into rows of dS^T that are swizzled as a wgmma reads
/// them: the eight rows that a warp writes at once meet all banks.
__device__ __forceinline__ void store_logit_gradients(
    Shared& shared, const float (&d)[kTileQueries / 2],
    const std::uint32_t (&probabilities)[kQuerySteps][4], const float* row_sums, const Lane& lane) {
  const int key = computed_here(lane.key);
  auto* words = reinterpret_cast<std::uint32_t*>(shared.logit_gradient) + key * kTileQueries / 2 +
                lane.column / 2;
#pragma unroll
  for (int i = 0; i < kTileQueries / 8; ++i) {
    const float2 row = *reinterpret_cast<const float2*>(row_sums + 8 * i + lane.column);
    const int piece = i ^ (key % 8);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t pair = probabilities[i / 2][i % 2 * 2 + half];
      words[half * 8 * kTileQueries / 2 + piece * 4] =
          pack_bf16(float_of(pair << 16) * (d[4 * i + 2 * half] - row.x),
                    float_of(pair & 0xffff0000U) * (d[4 * i + 2 * half + 1] - row.y));
    }
  }
}

/// Accumulators into the staging of dQ: 16 bytes a thread, one after the other.
__device__ __forceinline__ void stage_sums(Shared& shared, int box,
                                           const float (&d)[kBoxColumns / 2]) {
  auto* out = reinterpret_cast<float4*>(shared.query_sums[box]) + thread_index() % kWarpgroupSize;
#pragma unroll
  for (int i = 0; i < kBoxColumns / 8; ++i) {
    out[i * kWarpgroupSize] = make_float4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  }
}

__device__ __forceinline__ void release(Mbarrier* bar) {
  __syncwarp();
  if (lane_index() == 0) mbarrier_arrive(bar);
}

/// What a consumer keeps from turn to turn.
struct ConsumerState {
  TileRing<kStages> ring;
  int tile_parity = 0;
  int sums_parity = 1;
};

__device__ __forceinline__ void turn_through(Shared& shared, const AttentionSequences& all,
                                             const Tile& tile, const Lane& lane,
                                             ConsumerState& state,
                                             float (&key_gradient)[kQueryKeyWidth / 2],
                                             float (&value_gradient)[kValueWidth / 2]) {
  const float scale2 = all.scale * kLog2E;
  const int slope = all.causal ? 1 : 0;
  mbarrier_wait(&shared.tile_full, state.tile_parity);
  state.tile_parity ^= 1;
  const int left = tile.keys - tile.begin;
  if (left < kTileKeys) {
    zero_rows(shared.key[0], kQueryBoxes, kTileKeys, left);
    zero_rows(shared.value[0], kValueBoxes, kTileKeys, left);
    fence_async_proxy();
    named_barrier_sync(kAlone + lane.group, kWarpgroupSize);
  }
  for (int turn = tile.first_turn; turn < tile.end_turn; ++turn) {
    const int stage = state.ring.stage;
    const int parity = state.ring.parity;
    const int first_query = turn * kTileQueries;
    mbarrier_wait(&shared.query_full[stage], parity);
    if (tile.queries - first_query < kTileQueries) {
      const int queries = tile.queries - first_query;
      mbarrier_wait(&shared.gradient_full[stage], parity);
      zero_rows(shared.query[stage][0], kQueryBoxes, kTileQueries, queries);
      zero_rows(shared.output_gradient[stage][0], kValueBoxes, kTileQueries, queries);
      fence_async_proxy();
      named_barrier_sync(kAlone + lane.group, kWarpgroupSize);
    }
    const int first_row = lane.group * kGroupRows * kBoxColumns;
    float s[kTileQueries / 2];
    wgmma_fence();
    issue_rows<kQueryBoxes>(s, shared.key[0] + first_row, kTileKeys, shared.query[stage][0]);
    wgmma_wait<0>();
    exponentiate(s, shared.statistics[stage][0], lane, scale2);
    const int group_end = tile.begin + (lane.group + 1) * kGroupRows;
    if (group_end > tile.keys || (all.causal && group_end > tile.seen + first_query)) {
      const int key = tile.begin + lane.key;
      mask(s, lane, all.causal ? key + 1 - tile.seen - first_query : 0, slope, tile.keys - key);
    }
    std::uint32_t probabilities[kQuerySteps][4];
    to_fragments(s, probabilities);

    mbarrier_wait(&shared.gradient_full[stage], parity);
    wgmma_fence();
    issue_rows<kValueBoxes>(s, shared.value[0] + first_row, kTileKeys,
                            shared.output_gradient[stage][0]);
    issue_value_gradient(value_gradient, probabilities, shared, stage);
    wgmma_wait<1>();
    named_barrier_sync(kRead + lane.group, kConsumers);
    store_logit_gradients(shared, s, probabilities, shared.statistics[stage][1], lane);
    fence_async_proxy();
    named_barrier_sync(kWritten, kConsumers);

    // Each warpgroup makes 64 of dQ's 192 columns; they take turns at the last 64.
    wgmma_fence();
    issue_key_gradient(key_gradient, shared, stage, lane.group);
    issue_sums(s, shared, lane.group);
    wgmma_wait<0>();
    mbarrier_wait(&shared.sums_empty, state.sums_parity);
    state.sums_parity ^= 1;
    stage_sums(shared, lane.group, s);
    if (turn % 2 == lane.group) {
      wgmma_fence();
      issue_sums(s, shared, kGroups);
      wgmma_wait<0>();
      stage_sums(shared, kGroups, s);
    }
    named_barrier_arrive(kRead + 1 - lane.group, kConsumers);
    release(&shared.stage_empty[stage]);
    fence_async_proxy();
    release(&shared.sums_full);
    state.ring.step();
  }
  release(&shared.tile_empty);
}

__device__ __forceinline__ void consume(Shared& shared, const AttentionBwd& p, int tiles) {
  const AttentionSequences& all = p.sequences;
  const Lane lane{uniform(warpgroup_index()), warp_index() * 16 + lane_index() / 4,
                  lane_index() % 4 * 2};
  ConsumerState state;
  named_barrier_arrive(kRead + 1 - lane.group, kConsumers);  // nobody reads dS yet
  for_each_tile(all, tiles, [&](const Tile& tile) {
    float key_gradient[kQueryKeyWidth / 2];
    float value_gradient[kValueWidth / 2];
#pragma unroll
    for (int i = 0; i < kQueryKeyWidth / 2; ++i) key_gradient[i] = 0.0F;
#pragma unroll
    for (int i = 0; i < kValueWidth / 2; ++i) value_gradient[i] = 0.0F;
    if (tile.first_turn < tile.end_turn) {
      turn_through(shared, all, tile, lane, state, key_gradient, value_gradient);
    }
    const int begin = tile.begin + lane.group * kGroupRows;
    const std::int64_t first = static_cast<std::int64_t>(tile.first_key + begin) * all.heads +
                               tile.head;  // row of 192 or 128
    const float scale[2] = {all.scale, all.scale};
    const float one[2] = {1.0F, 1.0F};
    store_accumulators(key_gradient, scale, p.key_gradient + first * kQueryKeyWidth,
                       static_cast<std::int64_t>(all.heads) * kQueryKeyWidth, tile.keys - begin);
    store_accumulators(value_gradient, one, p.value_gradient + first * kValueWidth,
                       static_cast<std::int64_t>(all.heads) * kValueWidth, tile.keys - begin);
  });
}

__global__ void __launch_bounds__(kThreads, 1)
    attention_bwd_kernel(const __grid_constant__ TensorMap query,
                         const __grid_constant__ TensorMap key,
                         const __grid_constant__ TensorMap value,
                         const __grid_constant__ TensorMap output_gradient,
                         const __grid_constant__ AttentionBwd p, int tiles) {
  auto& shared = shared_memory<Shared>();
  if (thread_index() == 0) {
    mbarrier_init(&shared.tile_full, 1);
    mbarrier_init(&shared.tile_empty, kConsumerWarps);
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(&shared.query_full[stage], 1);
      mbarrier_init(&shared.gradient_full[stage], 1);
      mbarrier_init(&shared.stage_empty[stage], kConsumerWarps);
    }
    mbarrier_init(&shared.sums_full, kConsumerWarps);
    mbarrier_init(&shared.sums_empty, 1);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (warpgroup_index() == kGroups) {
    fewer_registers<24>();
    if (lane_index() != 0) return;
    if (warp_index() == kConsumerWarps) {
      produce(shared, query, key, value, output_gradient, p, tiles);
    } else if (warp_index() == kWriterWarp) {
      write_sums(shared, p, tiles);
    }
  } else {
    more_registers<240>();
    consume(shared, p, tiles);
  }
}

/// One item of the kernels before and after: 64 queries of a head.
struct QueryTile {
  int head;
  int queries;
  std::int64_t first;  // query of the tensors
  std::int64_t place;  // tile of the arrays between the kernels
};
__device__ __forceinline__ QueryTile query_tile_of(const AttentionSequences& all, int item) {
  const int tiles = (all.longest_queries + kTileQueries - 1) / kTileQueries;
  const int sequence = item / all.heads / tiles;
  const int tile = item / all.heads % tiles;
  const SequencePlace place = place_of(all, sequence);
  const int begin = tile * kTileQueries;
  const int head = item % all.heads;
  return {head, place.queries - begin < kTileQueries ? place.queries - begin : kTileQueries,
          place.first_query + begin,
          static_cast<std::int64_t>(head) * tiles_of(all) + first_tile_of(place, sequence) + tile};
}
PIPECAST_HOST_DEVICE int query_items(const AttentionSequences& all) {
  return all.sequences * all.heads * ((all.longest_queries + kTileQueries - 1) / kTileQueries);
}

constexpr int kPreprocessThreads = 256;
constexpr int kRowLanes = kValueWidth / 8;  // 16 bytes each
constexpr int kPasses = kTileQueries / (kPreprocessThreads / kRowLanes);

/// Sum of the products of eight pairs of BF16.
__device__ __forceinline__ float dot(const uint4& a, const uint4& b) {
  const std::uint32_t left[4] = {a.x, a.y, a.z, a.w};
  const std::uint32_t right[4] = {b.x, b.y, b.z, b.w};
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum = fmaf(float_of(left[i] << 16), float_of(right[i] << 16), sum);
    sum = fmaf(float_of(left[i] & 0xffff0000U), float_of(right[i] & 0xffff0000U), sum);
  }
  return sum;
}

__global__ void __launch_bounds__(kPreprocessThreads)
    attention_bwd_preprocess_kernel(const __grid_constant__ AttentionBwd p) {
  const AttentionSequences& all = p.sequences;
  for (int item = block_index(); item < query_items(all); item += grid_size()) {
    const QueryTile tile = query_tile_of(all, item);
    if (tile.queries <= 0) continue;
    const int piece = thread_index() % kRowLanes;
    const int first_row = thread_index() / kRowLanes;
    uint4 output[kPasses];
    uint4 gradient[kPasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = first_row + pass * (kTileQueries / kPasses);
      output[pass] = gradient[pass] = make_uint4(0, 0, 0, 0);
      if (row < tile.queries) {
        const std::int64_t at =
            ((tile.first + row) * all.heads + tile.head) * kValueWidth + 8 * piece;
        output[pass] = __ldg(reinterpret_cast<const uint4*>(p.output + at));
        gradient[pass] = __ldg(reinterpret_cast<const uint4*>(p.output_gradient + at));
      }
    }
    auto* sums = reinterpret_cast<float4*>(p.query_sums + tile.place * kSumsOfTile);
    for (int i = thread_index(); i < kSumsOfTile / 4; i += kPreprocessThreads) {
      sums[i] = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
    }
    if (thread_index() == 0) p.query_turns[tile.place] = 0;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = first_row + pass * (kTileQueries / kPasses);
      float sum = dot(output[pass], gradient[pass]);
      for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      }
      if (piece != 0) continue;
      // Queries that see nothing or do not exist: a log-sum-exp that makes their weights 0.
      float log_sum_exp = kInfinity;
      if (row < tile.queries) {
        const float given =
            p.log_sum_exp[static_cast<std::int64_t>(tile.head) * all.queries + tile.first + row];
        if (given != -kInfinity) log_sum_exp = given * kLog2E;
      }
      float* out = p.row_statistics + tile.place * kStatistics + row;
      out[0] = log_sum_exp;
      out[kTileQueries] = sum;
    }
  }
}

__global__ void __launch_bounds__(kWarpgroupSize)
    attention_bwd_convert_dq_kernel(const __grid_constant__ AttentionBwd p) {
  const AttentionSequences& all = p.sequences;
  const float scale[2] = {all.scale, all.scale};
  for (int item = block_index(); item < query_items(all); item += grid_size()) {
    const QueryTile tile = query_tile_of(all, item);
    if (tile.queries <= 0) continue;
    const auto* sums =
        reinterpret_cast<const float4*>(p.query_sums + tile.place * kSumsOfTile) + thread_index();
    Bf16* out = p.query_gradient + (tile.first * all.heads + tile.head) * kQueryKeyWidth;
#pragma unroll
    for (int box = 0; box < kQueryBoxes; ++box) {
      float d[kBoxColumns / 2];
#pragma unroll
      for (int i = 0; i < kBoxColumns / 8; ++i) {
        const float4 four = sums[(box * kBoxColumns / 8 + i) * kWarpgroupSize];
        d[4 * i] = four.x;
        d[4 * i + 1] = four.y;
        d[4 * i + 2] = four.z;
        d[4 * i + 3] = four.w;
      }
      store_accumulators(d, scale, out + box * kBoxColumns,
                         static_cast<std::int64_t>(all.heads) * kQueryKeyWidth, tile.queries);
    }
  }
}

void check(const AttentionBwd& p, const char* complaint) {
  const AttentionSequences& all = p.sequences;
  if (all.heads <= 0 || all.sequences < 0 || all.queries < 0 || all.keys < 0 ||
      !(all.scale > 0.0F)) {
    throw DeviceError(complaint);
  }
}

int blocks_of(int items, int sms, int blocks_per_sm) {
  const int resident = (sms > 0 ? sms : device_sms()) * blocks_per_sm;
  return items < resident ? items : resident;
}

}  // namespace

AttentionBwdWorkspace attention_bwd_workspace(const AttentionSequences& all) {
  const std::size_t tiles =
      static_cast<std::size_t>(all.heads) * static_cast<std::size_t>(tiles_of(all));
  return {tiles * kStatistics, tiles * kSumsOfTile, tiles};
}

void attention_bwd_preprocess(const AttentionBwd& p) {
  check(p, "attention_bwd_preprocess: heads and the scale are positive");
  if (p.sequences.queries == 0) return;
  constexpr int kBlocksPerSm = 8;
  launch(attention_bwd_preprocess_kernel,
         {blocks_of(query_items(p.sequences), p.sms, kBlocksPerSm), kPreprocessThreads, 0}, p);
}

void attention_bwd(const AttentionBwd& p) {
  check(p, "attention_bwd: heads and the scale are positive");
  const AttentionSequences& all = p.sequences;
  if (all.keys == 0) return;
  const auto window = [&](const Bf16* base, int tokens, int width, int rows) {
    const std::int64_t columns = static_cast<std::int64_t>(all.heads) * width;
    return make_tensor_map(
        {base, Element::kBf16, tokens, columns, columns, rows, kBoxColumns, Swizzle::k128Bytes});
  };
  const TensorMap key = window(p.key, all.keys, kQueryKeyWidth, kTileKeys);
  const int tiles = (all.longest_keys + kTileKeys - 1) / kTileKeys;
  // Without queries their maps are never read: any valid one will do.
  const bool any = all.queries > 0;
  launch_together(
      attention_bwd_kernel,
      {blocks_of(all.sequences * all.heads * tiles, p.sms, 1), kThreads, sizeof(Shared)},
      any ? window(p.query, all.queries, kQueryKeyWidth, kTileQueries) : key, key,
      window(p.value, all.keys, kValueWidth, kTileKeys),
      any ? window(p.output_gradient, all.queries, kValueWidth, kTileQueries) : key, p, tiles);
}

void attention_bwd_convert_dq(const AttentionBwd& p) {
  check(p, "attention_bwd_convert_dq: heads and the scale are positive");
  if (p.sequences.queries == 0) return;
  constexpr int kBlocksPerSm = 8;
  launch(attention_bwd_convert_dq_kernel,
         {blocks_of(query_items(p.sequences), p.sms, kBlocksPerSm), kWarpgroupSize, 0}, p);
}

}  // namespace pipecast::kernels
