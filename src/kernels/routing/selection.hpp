#pragma once

/// How a warp selects among the scores of one token: lane l holds `kPerLane` neighbours, from
/// number l * kPerLane on. For gate.cu and topk.cu.
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

// Order keys: any number is above both.
constexpr unsigned kTakenKey = 0;
constexpr unsigned kNanKey = 1;

/// Unsigned integers in the order of the floats, NaN below all.
__device__ __forceinline__ unsigned order_key(float value) {
  if (value != value) return kNanKey;
  const unsigned bits = __float_as_uint(value + 0.0F);  // -0 becomes 0, its equal
  return (bits >> 31) != 0U ? ~bits : bits | 0x80000000U;
}

/// A lane's neighbouring elements, moved by the widest accesses that their alignment allows.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount < kBytesPerPiece ? sizeof(T) * kCount : kBytesPerPiece) Elements {
  T values[kCount];
};

/// Ranks of what every lane brings: true where it is among the `best` largest of the leaders, which
/// are the lanes divisible by `stride`; of equals the lower lane wins.
__device__ __forceinline__ bool among_best(float value, int best, int stride) {
  const unsigned own = order_key(value);
  int ahead = 0;
  for (int other = 0; other < kWarpSize; other += stride) {
    const unsigned key = __shfl_sync(kAllLanes, own, other);
    ahead += key > own || (key == own && other < lane_index() / stride * stride) ? 1 : 0;
  }
  return ahead < best;
}

/// Sum of the two best of a group, which `lanes` neighbouring lanes hold.
template <int kPerLane>
__device__ __forceinline__ float two_best(const float (&scores)[kPerLane], int lanes) {
  float first = scores[0];
  float second = 0.0F;
  bool has_second = false;
#pragma unroll
  for (int i = 1; i < kPerLane; ++i) {
    const bool better = order_key(scores[i]) > order_key(first);
    const float loser = better ? first : scores[i];
    first = better ? scores[i] : first;
    if (!has_second || order_key(loser) > order_key(second)) second = loser;
    has_second = true;
  }
  for (int distance = 1; distance < lanes; distance *= 2) {
    const float their_first = __shfl_xor_sync(kAllLanes, first, distance);
    const float their_second = __shfl_xor_sync(kAllLanes, second, distance);
    const bool better = order_key(their_first) > order_key(first);
    const float loser = better ? first : their_first;
    const float rival = better ? their_second : second;  // behind the winner on its own side
    first = better ? their_first : first;
    second = has_second && order_key(rival) > order_key(loser) ? rival : loser;
    has_second = true;
  }
  return has_second ? first + second : first;
}

struct Selection {
  int groups;
  int top_groups;
  int top_k;
};

/// One warp: expert chosen as number `lane`, for lanes below top_k.
template <int kPerLane>
__device__ __forceinline__ int select_best(const float (&scores)[kPerLane],
                                           const Selection& selection) {
  const int lane = lane_index();
  bool kept = true;
  if (selection.top_groups < selection.groups) {
    const int lanes = kWarpSize / selection.groups;
    kept = among_best(two_best(scores, lanes), selection.top_groups, lanes);
  }
  unsigned keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) keys[i] = kept ? order_key(scores[i]) : kTakenKey;

  int chosen = 0;
  for (int choice = 0; choice < selection.top_k; ++choice) {
    unsigned best = keys[0];
    int slot = 0;
#pragma unroll
    for (int i = 1; i < kPerLane; ++i) {
      if (keys[i] > best) {
        best = keys[i];
        slot = i;
      }
    }
    // Lanes hold neighbouring experts, so the lowest lane has the lowest index.
    const unsigned largest = __reduce_max_sync(kAllLanes, best);
    const int winner = __ffs(static_cast<int>(__ballot_sync(kAllLanes, best == largest))) - 1;
    const int expert = winner * kPerLane + __shfl_sync(kAllLanes, slot, winner);
    if (lane == choice) chosen = expert;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane * kPerLane + i == expert) keys[i] = kTakenKey;
    }
  }
  return chosen;
}

}  // namespace pipecast::kernels
