#include "kernels/exchange/exchange.hpp"
#include "kernels/exchange/window.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

/// What a dispatch reads on the sending side.
struct Outgoing {
  const int4* rows;
  const float* scales;
  const int* chosen;
  const float* weights;
  const std::uint32_t* ranks_of_token;
  int* sent_rows;
  int tokens;
};

/// What it writes on the receiving side.
struct Incoming {
  const int* first_rows;
  int4* rows;
  float* scales;
  int* experts;
  float* weights;
  int* tokens;
};

/// A slot: the row, then in words its scales, the experts and the weights of its choices, and the
/// token's number.
struct SlotExtents {
  int pieces;
  int scales;
  int choices;  // 0 where experts and weights stay

  __device__ __forceinline__ int token_word() const { return scales + 2 * choices; }
};

struct DispatchShared {
  int ready[kMostRanks];
};

/// A warp writes one token into a slot.
__device__ __forceinline__ void send_token(unsigned char* slot, const Outgoing& out,
                                           const SlotExtents& extents, int token, int first_expert,
                                           int last_expert) {
  const int lane = lane_index();
  auto* pieces = reinterpret_cast<int4*>(slot);
  send_pieces(pieces, out.rows + static_cast<std::int64_t>(token) * extents.pieces, extents.pieces);
  auto* words = reinterpret_cast<float*>(pieces + extents.pieces);
  const std::int64_t scales = static_cast<std::int64_t>(token) * extents.scales;
  for (int i = lane; i < extents.scales; i += kWarpSize) words[i] = __ldg(out.scales + scales + i);
  if (lane < extents.choices) {
    const std::int64_t choice = static_cast<std::int64_t>(token) * extents.choices + lane;
    const int expert = __ldg(out.chosen + choice);
    const bool there = expert >= first_expert && expert < last_expert;
    words[extents.scales + lane] = __int_as_float(there ? expert - first_expert : -1);
    words[extents.scales + extents.choices + lane] = there ? __ldg(out.weights + choice) : 0.0F;
  }
  if (lane == 0) words[extents.token_word()] = __int_as_float(token);
}

/// A warp takes one row out of a slot.
__device__ __forceinline__ void receive_token(const Incoming& in, const SlotExtents& extents,
                                              const unsigned char* slot, std::int64_t row) {
  const int lane = lane_index();
  const auto* pieces = reinterpret_cast<const int4*>(slot);
  receive_pieces(in.rows + row * extents.pieces, pieces, extents.pieces);
  const auto* words = reinterpret_cast<const float*>(pieces + extents.pieces);
  for (int i = lane; i < extents.scales; i += kWarpSize) {
    in.scales[row * extents.scales + i] = words[i];
  }
  if (lane < extents.choices) {
    in.experts[row * extents.choices + lane] = __float_as_int(words[extents.scales + lane]);
    in.weights[row * extents.choices + lane] = words[extents.scales + extents.choices + lane];
  }
  if (lane == 0) in.tokens[row] = __float_as_int(words[extents.token_word()]);
}

/// The channel's tokens for the group's peer.
__device__ __forceinline__ void send(const ExchangeExtents& shape, const ExchangeRank& self,
                                     const Outgoing& out, const SlotExtents& extents, int channel) {
  const PeerGroup group = PeerGroup::own();
  RingWriter ring(Window(self.windows[group.peer], shape), Window(self.windows[self.rank], shape),
                  channel, self.rank, group, shape);
  const int first_expert = group.peer * (shape.experts / shape.ranks);
  const int last_expert = first_expert + shape.experts / shape.ranks;
  const TokenRange range = tokens_of(channel, shape.channels, out.tokens);
  int row = 0;
  for (int base = range.begin; base < range.end; base += kWarpSize) {
    const int own = base + lane_index();
    const bool goes = own < range.end && (__ldg(out.ranks_of_token + own) >> group.peer & 1U) != 0;
    unsigned rest = __ballot_sync(kAllLanes, goes);
    if (group.warp == 0 && own < range.end) {
      const int place = row + __popc(rest & ((1U << lane_index()) - 1U));
      out.sent_rows[static_cast<std::int64_t>(own) * shape.ranks + group.peer] = goes ? place : -1;
    }
    while (rest != 0) {
      const int token = base + take_lowest(rest);
      if (ring.take(row)) {
        send_token(ring.slot(row), out, extents, token, first_expert, last_expert);
      }
      ring.publish(++row, false);
    }
  }
  ring.publish(row, true);
}

/// The channel's rows from the group's peer.
__device__ __forceinline__ void receive(DispatchShared& shared, const ExchangeExtents& shape,
                                        const ExchangeRank& self, const Incoming& in,
                                        const SlotExtents& extents, int channel) {
  const PeerGroup group = PeerGroup::own();
  const Window own(self.windows[self.rank], shape);
  const std::uint32_t* tail = own.tail(channel, group.peer);
  std::uint32_t* head = Window(self.windows[group.peer], shape).head(channel, self.rank);
  const int stream = group.peer * shape.channels + channel;
  const int first = __ldg(in.first_rows + stream);
  const int count = __ldg(in.first_rows + stream + 1) - first;
  int row = 0;
  while (row < count) {
    if (group.leads()) {
      wait_until_system(tail, static_cast<std::uint32_t>(row + 1));
      shared.ready[group.peer] = static_cast<int>(load_acquire_system(tail));
    }
    group.sync();
    const int ready = shared.ready[group.peer];
    for (int i = row + group.warp; i < ready; i += kWarpsPerPeer) {
      receive_token(in, extents, own.slot(channel, group.peer, i), first + i);
    }
    // All loads are done before the sender may write again.
    group.sync();
    if (group.leads()) store_release_system(head, static_cast<std::uint32_t>(ready));
    row = ready;
  }
}

/// Even blocks send, odd ones receive.
__global__ void __launch_bounds__(kExchangeThreadsAtMost, 1)
    ep_dispatch_kernel(const __grid_constant__ ExchangeExtents shape,
                       const __grid_constant__ ExchangeRank self, Outgoing out, Incoming in,
                       SlotExtents extents) {
  auto& shared = shared_memory<DispatchShared>();
  const int channel = block_index() / 2;
  if (block_index() % 2 == 0) {
    send(shape, self, out, extents, channel);
  } else {
    receive(shared, shape, self, in, extents, channel);
  }
}

}  // namespace

void ep_dispatch(const EpDispatch& p) {
  check_exchange("ep_dispatch", p.shape);
  const int choices = p.chosen == nullptr ? 0 : p.shape.top_k;
  if (p.row_bytes < kBytesPerPiece || p.row_bytes % kBytesPerPiece != 0 ||
      dispatch_slot_bytes(p.row_bytes, p.scale_count, choices) > p.shape.slot_bytes) {
    throw DeviceError("ep_dispatch: rows of a multiple of 16 bytes that fit into a slot");
  }
  launch(ep_dispatch_kernel,
         {2 * p.shape.channels, exchange_threads(p.shape), sizeof(DispatchShared)}, p.shape, p.self,
         Outgoing{static_cast<const int4*>(p.rows), p.scales, p.chosen, p.weights, p.ranks_of_token,
                  p.sent_rows, p.tokens},
         Incoming{p.first_rows, static_cast<int4*>(p.received_rows), p.received_scales,
                  p.received_experts, p.received_weights, p.received_tokens},
         SlotExtents{p.row_bytes / kBytesPerPiece, p.scale_count, choices});
}

}  // namespace pipecast::kernels
