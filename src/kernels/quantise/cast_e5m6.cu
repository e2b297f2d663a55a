#include "kernels/quantise/cast_e5m6.hpp"
#include "kernels/quantise/streaming.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;
constexpr int kWarps = kStreamingThreads / kWarpSize;
constexpr int kWordsOfEight = 3;  // eight codes of 12 bits
constexpr int kVectorsIn = 4;     // sixteen bytes of BF16 each, per lane and turn
constexpr int kVectorsOut = 3;    // the same numbers, packed
constexpr int kEightsOfWarp = kWarpSize * kVectorsIn;

/// Packed codes on their way between lanes that convert eight numbers and lanes that move sixteen
/// bytes.
struct Shared {
  unsigned words[kWarps][kEightsOfWarp * kWordsOfEight];
};

/// Two codes of 12 bits as 24.
__device__ __forceinline__ unsigned pair_of_codes(float first, float second) {
  return static_cast<unsigned>(to_e5m6(first).bits) | static_cast<unsigned>(to_e5m6(second).bits)
                                                          << 12;
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    cast_e5m6_kernel(const Bf16* __restrict__ source, std::uint8_t* __restrict__ packed,
                     std::int64_t eights) {
  auto& shared = shared_memory<Shared>();
  unsigned* words = shared.words[warp_index()];
  const int lane = lane_index();
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kWarps * kEightsOfWarp;
  for (std::int64_t first =
           static_cast<std::int64_t>(block_index() * kWarps + warp_index()) * kEightsOfWarp;
       first < eights; first += step) {
    int4 in[kVectorsIn];
#pragma unroll
    for (int i = 0; i < kVectorsIn; ++i) {
      const std::int64_t at = first + i * kWarpSize + lane;
      in[i] = at < eights ? load_once(source + at * kEight) : make_int4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kVectorsIn; ++i) {
      const EightFloats x = unpack(in[i]);
      const unsigned a = pair_of_codes(x.value[0], x.value[1]);
      const unsigned b = pair_of_codes(x.value[2], x.value[3]);
      const unsigned c = pair_of_codes(x.value[4], x.value[5]);
      const unsigned d = pair_of_codes(x.value[6], x.value[7]);
      // Three words apart from lane to lane: no bank is met twice.
      unsigned* mine = words + (i * kWarpSize + lane) * kWordsOfEight;
      mine[0] = a | b << 24;
      mine[1] = b >> 8 | c << 16;
      mine[2] = c >> 16 | d << 8;
    }
    __syncwarp();
    const std::int64_t left = (eights - first) * kWordsOfEight;  // words of this warp's turn
    auto* target = reinterpret_cast<unsigned*>(packed) + first * kWordsOfEight;
#pragma unroll
    for (int i = 0; i < kVectorsOut; ++i) {
      const int at = (i * kWarpSize + lane) * 4;
      if (at + 4 <= left) {
        *reinterpret_cast<uint4*>(target + at) = *reinterpret_cast<const uint4*>(words + at);
      } else {
        for (int word = at; word < left; ++word) target[word] = words[word];
      }
    }
    __syncwarp();  // before the next turn's words
  }
}

__device__ __forceinline__ float number_of(unsigned code) {
  return to_float(E5m6{static_cast<std::uint16_t>(code & 0xfffU)});
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    uncast_e5m6_kernel(const std::uint8_t* __restrict__ packed, Bf16* __restrict__ result,
                       std::int64_t eights) {
  auto& shared = shared_memory<Shared>();
  unsigned* words = shared.words[warp_index()];
  const int lane = lane_index();
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kWarps * kEightsOfWarp;
  for (std::int64_t first =
           static_cast<std::int64_t>(block_index() * kWarps + warp_index()) * kEightsOfWarp;
       first < eights; first += step) {
    const std::int64_t left = (eights - first) * kWordsOfEight;
    const auto* origin = reinterpret_cast<const unsigned*>(packed) + first * kWordsOfEight;
    uint4 in[kVectorsOut];
#pragma unroll
    for (int i = 0; i < kVectorsOut; ++i) {
      const int at = (i * kWarpSize + lane) * 4;
      if (at + 4 <= left) in[i] = *reinterpret_cast<const uint4*>(origin + at);
    }
#pragma unroll
    for (int i = 0; i < kVectorsOut; ++i) {
      const int at = (i * kWarpSize + lane) * 4;
      if (at + 4 <= left) {
        *reinterpret_cast<uint4*>(words + at) = in[i];
      } else {
        for (int word = at; word < left; ++word) words[word] = origin[word];
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kVectorsIn; ++i) {
      const std::int64_t at = first + i * kWarpSize + lane;
      if (at >= eights) continue;
      const unsigned* mine = words + (i * kWarpSize + lane) * kWordsOfEight;
      const unsigned a = mine[0];
      const unsigned b = a >> 24 | mine[1] << 8;
      const unsigned c = mine[1] >> 16 | mine[2] << 16;
      const unsigned d = mine[2] >> 8;
      store_eight(result + at * kEight,
                  pack({number_of(a), number_of(a >> 12), number_of(b), number_of(b >> 12),
                        number_of(c), number_of(c >> 12), number_of(d), number_of(d >> 12)}));
    }
    __syncwarp();
  }
}

int blocks_for(std::int64_t eights, int sms) {
  constexpr std::int64_t kTurn = static_cast<std::int64_t>(kWarps) * kEightsOfWarp;
  return persistent_grid((eights + kTurn - 1) / kTurn, sms, kBlocksPerSm);
}

}  // namespace

void cast_e5m6(const CastE5m6& p) {
  require_eights(p.rows, p.columns, "cast_e5m6");
  const std::int64_t eights = static_cast<std::int64_t>(p.rows) * p.columns / kEight;
  if (eights == 0) return;
  launch(cast_e5m6_kernel, {blocks_for(eights, p.sms), kStreamingThreads, sizeof(Shared)}, p.source,
         p.packed, eights);
}

void uncast_e5m6(const UncastE5m6& p) {
  require_eights(p.rows, p.columns, "uncast_e5m6");
  const std::int64_t eights = static_cast<std::int64_t>(p.rows) * p.columns / kEight;
  if (eights == 0) return;
  launch(uncast_e5m6_kernel, {blocks_for(eights, p.sms), kStreamingThreads, sizeof(Shared)},
         p.packed, p.result, eights);
}

}  // namespace pipecast::kernels
