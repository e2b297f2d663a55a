#include "kernels/exchange/exchange.hpp"
#include "kernels/exchange/window.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

/// What a combine reads on the side that holds the experts.
struct Results {
  const int4* rows;
  const float* weights;
  const int* first_rows;
};

/// What it reads and writes on the side that holds the tokens.
struct Sums {
  const int* sent_rows;
  const int4* addends[2];
  int4* output;
  float* output_weights;
  int tokens;
};

/// A slot: the row, then the weights of its choices.
struct CombineExtents {
  int pieces;
  int choices;  // 0 without weights
};

/// The channel's rows back to the group's peer.
__device__ __forceinline__ void send_back(const ExchangeExtents& shape, const ExchangeRank& self,
                                          const Results& results, const CombineExtents& extents,
                                          int channel) {
  const PeerGroup group = PeerGroup::own();
  RingWriter ring(Window(self.windows[group.peer], shape), Window(self.windows[self.rank], shape),
                  channel, self.rank, group, shape);
  const int stream = group.peer * shape.channels + channel;
  const int first = __ldg(results.first_rows + stream);
  const int count = __ldg(results.first_rows + stream + 1) - first;
  for (int row = 0; row < count; ++row) {
    if (ring.take(row)) {
      const std::int64_t source = first + row;
      auto* pieces = reinterpret_cast<int4*>(ring.slot(row));
      send_pieces(pieces, results.rows + source * extents.pieces, extents.pieces);
      auto* words = reinterpret_cast<float*>(pieces + extents.pieces);
      if (lane_index() < extents.choices) {
        words[lane_index()] = __ldg(results.weights + source * extents.choices + lane_index());
      }
    }
    ring.publish(row + 1, false);
  }
  ring.publish(count, true);
}

/// Where the rows of one token are, lane r for rank r; `valid` has a bit for each.
struct SlotsOfToken {
  const int4* slot;
  unsigned valid;
};

/// Pointer that another lane holds.
__device__ __forceinline__ const int4* shuffled(const int4* pointer, int lane) {
  return reinterpret_cast<const int4*>(
      __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(pointer), lane));
}

/// A warp adds up one token.
__device__ __forceinline__ void sum_token(const Sums& sums, const CombineExtents& extents,
                                          const SlotsOfToken& slots, std::int64_t token) {
  for (int base = 0; base < extents.pieces; base += kWarpSize) {
    const int at = base + lane_index();
    const bool inside = at < extents.pieces;
    float sum[kBf16PerPiece] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (sums.addends[i] == nullptr || !inside) continue;
      float terms[kBf16PerPiece];
      unpack_bf16(load_streaming(sums.addends[i] + token * extents.pieces + at), terms);
#pragma unroll
      for (int j = 0; j < kBf16PerPiece; ++j) sum[j] += terms[j];
    }
    for (unsigned rest = slots.valid; rest != 0;) {
      int4 values[kCopiesInFlight];
#pragma unroll
      for (int i = 0; i < kCopiesInFlight; ++i) {
        values[i] = make_int4(0, 0, 0, 0);
        if (rest == 0) continue;
        const int4* from = shuffled(slots.slot, take_lowest(rest));
        if (inside) values[i] = from[at];
      }
#pragma unroll
      for (int i = 0; i < kCopiesInFlight; ++i) {
        float terms[kBf16PerPiece];
        unpack_bf16(values[i], terms);
#pragma unroll
        for (int j = 0; j < kBf16PerPiece; ++j) sum[j] += terms[j];
      }
    }
    if (inside) sums.output[token * extents.pieces + at] = pack_piece(sum);
  }
  if (extents.choices == 0) return;
  float weight = 0.0F;
  for (unsigned rest = slots.valid; rest != 0;) {
    const int4* from = shuffled(slots.slot, take_lowest(rest));
    if (lane_index() < extents.choices) {
      weight += reinterpret_cast<const float*>(from + extents.pieces)[lane_index()];
    }
  }
  if (lane_index() < extents.choices) {
    sums.output_weights[token * extents.choices + lane_index()] = weight;
  }
}

/// The channel's tokens, as many at a time as the block has warps and the rings allow. Warp r < R
/// waits for rank r's rows and gives their slots back; all warps sum.
__device__ __forceinline__ void sum_tokens(const ExchangeExtents& shape, const ExchangeRank& self,
                                           const Sums& sums, const CombineExtents& extents,
                                           int channel) {
  const Window own(self.windows[self.rank], shape);
  const int lane = lane_index();
  const int warp = warp_index();
  const int warps = shape.ranks * kWarpsPerPeer;
  const int step = rows_per_wait(shape.slots) < warps ? rows_per_wait(shape.slots) : warps;
  const TokenRange range = tokens_of(channel, shape.channels, sums.tokens);
  for (int base = range.begin; base < range.end; base += step) {
    unsigned needed = 0;  // rows of this warp's rank up to here
    if (warp < shape.ranks) {
      const bool mine = lane < step && base + lane < range.end;
      const int last =
          mine ? __ldg(sums.sent_rows + static_cast<std::int64_t>(base + lane) * shape.ranks + warp)
               : -1;
      needed = __reduce_max_sync(kAllLanes, static_cast<unsigned>(last + 1));
      if (needed > 0 && lane == 0) wait_until_system(own.tail(channel, warp), needed);
    }
    __syncthreads();
    const int token = base + warp;
    if (warp < step && token < range.end) {
      const int place =
          lane < shape.ranks
              ? __ldg(sums.sent_rows + static_cast<std::int64_t>(token) * shape.ranks + lane)
              : -1;
      const SlotsOfToken slots{
          place < 0 ? nullptr : reinterpret_cast<const int4*>(own.slot(channel, lane, place)),
          __ballot_sync(kAllLanes, place >= 0)};
      sum_token(sums, extents, slots, token);
    }
    // All loads are done before the senders may write again.
    __syncthreads();
    if (needed > 0 && lane == 0) {
      store_release_system(Window(self.windows[warp], shape).head(channel, self.rank), needed);
    }
  }
}

/// Even blocks send, odd ones sum.
__global__ void __launch_bounds__(kExchangeThreadsAtMost, 1)
    ep_combine_kernel(const __grid_constant__ ExchangeExtents shape,
                      const __grid_constant__ ExchangeRank self, Results results, Sums sums,
                      CombineExtents extents) {
  const int channel = block_index() / 2;
  if (block_index() % 2 == 0) {
    send_back(shape, self, results, extents, channel);
  } else {
    sum_tokens(shape, self, sums, extents, channel);
  }
}

}  // namespace

void ep_combine(const EpCombine& p) {
  check_exchange("ep_combine", p.shape);
  const int choices = p.weights == nullptr ? 0 : p.shape.top_k;
  if (p.columns < 1 || p.columns % kBf16PerPiece != 0 ||
      combine_slot_bytes(p.columns, choices) > p.shape.slot_bytes) {
    throw DeviceError("ep_combine: rows of a multiple of 8 elements that fit into a slot");
  }
  const auto pieces = [](const Bf16* values) { return reinterpret_cast<const int4*>(values); };
  launch(ep_combine_kernel, {2 * p.shape.channels, exchange_threads(p.shape), 0}, p.shape, p.self,
         Results{pieces(p.rows), p.weights, p.first_rows},
         Sums{p.sent_rows,
              {pieces(p.addends[0]), pieces(p.addends[1])},
              reinterpret_cast<int4*>(p.output),
              p.output_weights,
              p.tokens},
         CombineExtents{p.columns / kBf16PerPiece, choices});
}

}  // namespace pipecast::kernels
