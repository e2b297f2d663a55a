#include "kernels/attention/attention_fwd.hpp"
#include "kernels/attention/tiles.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kGroups = 2;  // consumer warpgroups
constexpr int kTileQueries = kGroups * kGroupRows;
constexpr int kTileKeys = 128;
constexpr int kQueryBoxes = kQueryKeyWidth / kBoxColumns;
constexpr int kValueBoxes = kValueWidth / kBoxColumns;
constexpr int kStages = 2;
constexpr int kThreads = (kGroups + 1) * kWarpgroupSize;
constexpr int kConsumerWarps = kGroups * kWarpgroupSize / kWarpSize;
constexpr int kSteps = kTileKeys / kBf16Depth;  // of the product with values
constexpr int kBoxBytes = kTileKeys * kBoxColumns * static_cast<int>(sizeof(Bf16));

// Named barriers: one per warpgroup for its turn on the tensor cores, one per warpgroup alone.
constexpr int kTurn = 1;
constexpr int kAlone = kTurn + kGroups;

struct Shared {
  Bf16 query[kQueryBoxes][kTileQueries * kBoxColumns];
  Bf16 key[kStages][kQueryBoxes][kTileKeys * kBoxColumns];
  Bf16 value[kStages][kValueBoxes][kTileKeys * kBoxColumns];
  Mbarrier query_full;
  Mbarrier query_empty;
  Mbarrier key_full[kStages];
  Mbarrier key_empty[kStages];
  Mbarrier value_full[kStages];
  Mbarrier value_empty[kStages];
};

/// Order of the work: (sequence, head) pairs in groups whose keys and values fit the L2 together;
/// within a group the tiles that see most keys first.
struct WorkList {
  int pairs;
  int pairs_together;
  int tiles;  // of the longest sequence
};

/// One item: queries of one head.
struct Tile {
  int head;
  int first_query;  // row of the tensors
  int queries;      // at most 128, none where the sequence has no such tile
  int first_key;
  int keys;    // of the sequence
  int seen;    // how many of them the first query sees; one more for each query after it
  int blocks;  // of 128 keys that some query sees
};

__device__ __forceinline__ Tile tile_of(const AttentionSequences& all, const WorkList& list,
                                        int item) {
  const int of_group = list.pairs_together * list.tiles;
  const int first_pair = item / of_group * list.pairs_together;
  const int left = list.pairs - first_pair;
  const int pairs = left < list.pairs_together ? left : list.pairs_together;
  const int rest = item % of_group;
  const int pair = first_pair + rest % pairs;
  const int tile = all.causal ? list.tiles - 1 - rest / pairs : rest / pairs;
  const SequencePlace place = place_of(all, pair / all.heads);
  const int begin = tile * kTileQueries;
  const int queries = place.queries - begin < kTileQueries ? place.queries - begin : kTileQueries;
  const int seen = all.causal ? begin + 1 + place.keys - place.queries : place.keys;
  const int most = all.causal ? seen + queries - 1 : seen;
  return {pair % all.heads,
          place.first_query + begin,
          queries,
          place.first_key,
          place.keys,
          seen,
          most > 0 ? (most + kTileKeys - 1) / kTileKeys : 0};
}

__device__ __forceinline__ void produce(Shared& shared, const TensorMap& query,
                                        const TensorMap& key, const TensorMap& value,
                                        const AttentionSequences& all, const WorkList& list) {
  TileRing<kStages> ring;
  int tile_parity = 1;
  for (int round = 0;; ++round) {
    const int item = item_of_round(round);
    if (item >= list.pairs * list.tiles) {
      if (round * grid_size() >= list.pairs * list.tiles) break;
      continue;
    }
    const Tile tile = tile_of(all, list, item);
    if (tile.queries <= 0 || tile.blocks == 0) continue;
    mbarrier_wait(&shared.query_empty, tile_parity);
    tile_parity ^= 1;
    mbarrier_expect(&shared.query_full, kQueryBoxes * kBoxBytes);
    for (int box = 0; box < kQueryBoxes; ++box) {
      tma_load(shared.query[box], query, tile.head * kQueryKeyWidth + box * kBoxColumns,
               tile.first_query, &shared.query_full);
    }
    for (int block = tile.blocks - 1; block >= 0; --block) {
      const int row = tile.first_key + block * kTileKeys;
      mbarrier_wait(&shared.key_empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&shared.key_full[ring.stage], kQueryBoxes * kBoxBytes);
      for (int box = 0; box < kQueryBoxes; ++box) {
        tma_load(shared.key[ring.stage][box], key, tile.head * kQueryKeyWidth + box * kBoxColumns,
                 row, &shared.key_full[ring.stage]);
      }
      mbarrier_wait(&shared.value_empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&shared.value_full[ring.stage], kValueBoxes * kBoxBytes);
      for (int box = 0; box < kValueBoxes; ++box) {
        tma_load(shared.value[ring.stage][box], value, tile.head * kValueWidth + box * kBoxColumns,
                 row, &shared.value_full[ring.stage]);
      }
      ring.step();
    }
  }
}

/// S = Q K^T of the warpgroup's queries, issued and committed.
__device__ __forceinline__ void issue_scores(float (&s)[kTileKeys / 2], Shared& shared, int stage) {
  const int first = warpgroup_index() * kGroupRows * kBoxColumns;
#pragma unroll
  for (int box = 0; box < kQueryBoxes; ++box) {
#pragma unroll
    for (int k = 0; k < kBoxColumns; k += kBf16Depth) {
      wgmma_bf16<kTileKeys, Major::kK, Major::kK>(s, k_major(shared.query[box] + first + k),
                                                  k_major(shared.key[stage][box] + k),
                                                  box + k != 0);
    }
  }
  wgmma_commit();
}

/// O += P V, issued and committed.
__device__ __forceinline__ void issue_values(float (&o)[kValueWidth / 2],
                                             const std::uint32_t (&weights)[kSteps][4],
                                             Shared& shared, int stage) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    wgmma_bf16_registers<kValueWidth, Major::kMN>(
        o, weights[step],
        mn_major(shared.value[stage][0] + step * kBf16Depth * kBoxColumns, kBoxBytes), true);
  }
  wgmma_commit();
}

/// Hides keys that a query does not see.
/// @param seen  keys of this block that the thread's first row sees, one more or as many (`slope` 1
///              or 0) for each row after it, but at most `most`
__device__ __forceinline__ void mask(float (&s)[kTileKeys / 2], int seen, int slope, int most) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int sees = seen + 8 * half * slope;
    const int end = (sees < most ? sees : most) - lane_index() % 4 * 2;
#pragma unroll
    for (int i = 0; i < kTileKeys / 8; ++i) {
      s[4 * i + 2 * half] = 8 * i < end ? s[4 * i + 2 * half] : -kInfinity;
      s[4 * i + 2 * half + 1] = 8 * i + 1 < end ? s[4 * i + 2 * half + 1] : -kInfinity;
    }
  }
}

__device__ __forceinline__ void release(Mbarrier* bar) {
  if (lane_index() == 0) mbarrier_arrive(bar);
}

/// The warpgroup's 64 rows of a tile; the rings step once per block of keys.
__device__ __forceinline__ void attend(Shared& shared, const Tile& tile, bool causal, float scale2,
                                       TileRing<kStages>& keys, TileRing<kStages>& values,
                                       int tile_parity, float (&o)[kValueWidth / 2],
                                       OnlineSoftmax& softmax) {
  const int group = warpgroup_index();
  const int slope = causal ? 1 : 0;
  const int group_seen = tile.seen + slope * group * kGroupRows;
  const int thread_seen = group_seen + slope * (warp_index() % 4 * 16 + lane_index() / 4);
  const auto hide = [&](float(&s)[kTileKeys / 2], int block) {
    const int begin = block * kTileKeys;
    if (begin + kTileKeys > group_seen || begin + kTileKeys > tile.keys) {
      mask(s, thread_seen - begin, slope, tile.keys - begin);
    }
  };
  float s[kTileKeys / 2];
  float correction[2];
  std::uint32_t weights[kSteps][4];

  mbarrier_wait(&shared.query_full, tile_parity);
  mbarrier_wait(&shared.key_full[keys.stage], keys.parity);
  wgmma_fence();
  issue_scores(s, shared, keys.stage);
  wgmma_wait<0>();
  release(&shared.key_empty[keys.stage]);
  keys.step();
  hide(s, tile.blocks - 1);
  softmax.update(s, scale2, correction);
  to_fragments(s, weights);
  const int tail = tile.keys - (tile.blocks - 1) * kTileKeys;
  if (tail < kTileKeys) {
    mbarrier_wait(&shared.value_full[values.stage], values.parity);
    zero_rows(shared.value[values.stage][0], kValueBoxes, kTileKeys, tail);
    fence_async_proxy();
    named_barrier_sync(kAlone + group, kWarpgroupSize);
  }
  for (int block = tile.blocks - 2; block >= 0; --block) {
    // The other warpgroup exponentiates while this one issues, and the other way round.
    mbarrier_wait(&shared.key_full[keys.stage], keys.parity);
    named_barrier_sync(kTurn + group, kGroups * kWarpgroupSize);
    wgmma_fence();
    issue_scores(s, shared, keys.stage);
    mbarrier_wait(&shared.value_full[values.stage], values.parity);
    wgmma_fence();
    issue_values(o, weights, shared, values.stage);
    named_barrier_arrive(kTurn + 1 - group, kGroups * kWarpgroupSize);
    wgmma_wait<1>();
    release(&shared.key_empty[keys.stage]);
    keys.step();
    hide(s, block);
    softmax.update(s, scale2, correction);
    wgmma_wait<0>();
    release(&shared.value_empty[values.stage]);
    values.step();
#pragma unroll
    for (int i = 0; i < kValueWidth / 2; i += 4) {
      o[i] *= correction[0];
      o[i + 1] *= correction[0];
      o[i + 2] *= correction[1];
      o[i + 3] *= correction[1];
    }
    to_fragments(s, weights);
  }
  release(&shared.query_empty);
  mbarrier_wait(&shared.value_full[values.stage], values.parity);
  wgmma_fence();
  issue_values(o, weights, shared, values.stage);
  wgmma_wait<0>();
  release(&shared.value_empty[values.stage]);
  values.step();
}

__device__ __forceinline__ void consume(Shared& shared, const AttentionFwd& p,
                                        const WorkList& list) {
  const AttentionSequences& all = p.sequences;
  const int group = warpgroup_index();
  TileRing<kStages> keys;
  TileRing<kStages> values;
  int tile_parity = 0;
  if (group == 1) named_barrier_arrive(kTurn, kGroups * kWarpgroupSize);
  for (int round = 0;; ++round) {
    const int item = item_of_round(round);
    if (item >= list.pairs * list.tiles) {
      if (round * grid_size() >= list.pairs * list.tiles) break;
      continue;
    }
    const Tile tile = tile_of(all, list, item);
    if (tile.queries <= 0) continue;
    float o[kValueWidth / 2];
#pragma unroll
    for (int i = 0; i < kValueWidth / 2; ++i) o[i] = 0.0F;
    OnlineSoftmax softmax;
    if (tile.blocks > 0) {
      attend(shared, tile, all.causal, all.scale * kLog2E, keys, values, tile_parity, o, softmax);
      tile_parity ^= 1;
    }
    float factor[2];
    float log_sum_exp[2];
    softmax.finish(all.scale, factor, log_sum_exp);
    const int rows = tile.queries - group * kGroupRows;
    const std::int64_t first = tile.first_query + group * kGroupRows;
    const std::int64_t stride = static_cast<std::int64_t>(all.heads) * kValueWidth;
    store_accumulators(o, factor, p.output + first * stride + tile.head * kValueWidth, stride,
                       rows);
    const int row = warp_index() % 4 * 16 + lane_index() / 4;
    for (int half = 0; half < 2; ++half) {
      if (lane_index() % 4 != 0 || row + 8 * half >= rows) continue;
      p.log_sum_exp[static_cast<std::int64_t>(tile.head) * all.queries + first + row + 8 * half] =
          log_sum_exp[half];
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    attention_fwd_kernel(const __grid_constant__ TensorMap query,
                         const __grid_constant__ TensorMap key,
                         const __grid_constant__ TensorMap value,
                         const __grid_constant__ AttentionFwd p, WorkList list) {
  auto& shared = shared_memory<Shared>();
  if (thread_index() == 0) {
    mbarrier_init(&shared.query_full, 1);
    mbarrier_init(&shared.query_empty, kConsumerWarps);
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(&shared.key_full[stage], 1);
      mbarrier_init(&shared.key_empty[stage], kConsumerWarps);
      mbarrier_init(&shared.value_full[stage], 1);
      mbarrier_init(&shared.value_empty[stage], kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (warpgroup_index() == kGroups) {
    fewer_registers<40>();
    if (thread_index() % kWarpgroupSize == 0) {
      produce(shared, query, key, value, p.sequences, list);
    }
  } else {
    more_registers<232>();
    consume(shared, p, list);
  }
}

}  // namespace

void attention_fwd(const AttentionFwd& p) {
  const AttentionSequences& all = p.sequences;
  if (all.heads <= 0 || all.sequences < 0 || all.queries < 0 || all.keys < 0 ||
      !(all.scale > 0.0F)) {
    throw DeviceError("attention_fwd: heads and the scale are positive");
  }
  if (all.queries == 0) return;
  const auto window = [&](const Bf16* base, int tokens, int width) {
    const std::int64_t columns = static_cast<std::int64_t>(all.heads) * width;
    return make_tensor_map({base, Element::kBf16, tokens, columns, columns, kTileKeys, kBoxColumns,
                            Swizzle::k128Bytes});
  };
  const TensorMap query = window(p.query, all.queries, kQueryKeyWidth);
  const std::int64_t bytes_of_pair =
      static_cast<std::int64_t>(sizeof(Bf16)) * all.longest_keys * (kQueryKeyWidth + kValueWidth);
  const int pairs = all.sequences * all.heads;
  const std::int64_t fitting = bytes_of_pair > 0 ? kL2Bytes / bytes_of_pair : pairs;
  WorkList list{};
  list.pairs = pairs;
  list.pairs_together = fitting < 1 ? 1 : fitting < pairs ? static_cast<int>(fitting) : pairs;
  list.tiles = (all.longest_queries + kTileQueries - 1) / kTileQueries;
  const int items = list.pairs * list.tiles;
  const int sms = p.sms > 0 ? p.sms : device_sms();
  // Without keys their maps are never read: any valid one will do.
  launch(attention_fwd_kernel, {items < sms ? items : sms, kThreads, sizeof(Shared)}, query,
         all.keys > 0 ? window(p.key, all.keys, kQueryKeyWidth) : query,
         all.keys > 0 ? window(p.value, all.keys, kValueWidth) : query, p, list);
}

}  // namespace pipecast::kernels
