#pragma once

/// Inside of an exchange: how a rank's window is laid out, and how its rows move.
#include "kernels/exchange/exchange.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

/// Warps of a block that serve one peer. With 8 ranks 768 threads, as DeepEP.
constexpr int kWarpsPerPeer = 3;
/// Rows that a sender publishes together, where the ring has room for two such batches.
constexpr int kRowsPerPublication = 4 * kWarpsPerPeer;
constexpr int kExchangeThreadsAtMost = kMostRanks * kWarpsPerPeer * kWarpSize;
constexpr int kCopiesInFlight = 4;

/// Flags polled or written by different GPUs stand in lines of their own.
constexpr int kWordsPerFlag = 128 / 4;

/// One rank's window. Words: arrivals of each rank, the number of calls, heads, tails, then counts
/// and the rings.
class Window {
 public:
  PIPECAST_HOST_DEVICE Window(void* base, const ExchangeExtents& shape)
      : words_(static_cast<std::uint32_t*>(base)), shape_(shape) {}

  /// Barriers that `rank` has reached, written by it.
  PIPECAST_HOST_DEVICE std::uint32_t* arrivals(int rank) const { return flag(rank); }
  /// Barriers that the owner has reached; its own business.
  PIPECAST_HOST_DEVICE std::uint32_t* calls() const { return flag(shape_.ranks); }
  /// Rows that `reader` has read of those that the owner sent it.
  PIPECAST_HOST_DEVICE std::uint32_t* head(int channel, int reader) const {
    return flag(shape_.ranks + 1 + channel * shape_.ranks + reader);
  }
  /// Rows that `writer` has written into the owner's ring.
  PIPECAST_HOST_DEVICE std::uint32_t* tail(int channel, int writer) const {
    return head(channel + shape_.channels, writer);
  }
  /// Rows that each channel of `writer` will send.
  PIPECAST_HOST_DEVICE std::uint32_t* counts(int writer) const {
    return words_ + flags() * kWordsPerFlag + writer * shape_.channels;
  }
  /// Choices of `writer` for each of the owner's experts.
  PIPECAST_HOST_DEVICE std::uint32_t* expert_counts(int writer) const {
    return counts(shape_.ranks) + writer * (shape_.experts / shape_.ranks);
  }
  PIPECAST_HOST_DEVICE unsigned char* slot(int channel, int writer, int row) const {
    const std::int64_t ring = static_cast<std::int64_t>(channel) * shape_.ranks + writer;
    return reinterpret_cast<unsigned char*>(words_) + ring_offset() +
           (ring * shape_.slots + row % shape_.slots) * shape_.slot_bytes;
  }
  PIPECAST_HOST_DEVICE std::int64_t bytes() const {
    return ring_offset() + static_cast<std::int64_t>(shape_.channels) * shape_.ranks *
                               shape_.slots * shape_.slot_bytes;
  }

 private:
  PIPECAST_HOST_DEVICE int flags() const {
    return shape_.ranks + 1 + 2 * shape_.channels * shape_.ranks;
  }
  PIPECAST_HOST_DEVICE std::uint32_t* flag(int index) const {
    return words_ + index * kWordsPerFlag;
  }
  PIPECAST_HOST_DEVICE std::int64_t ring_offset() const {
    constexpr std::int64_t kAlignment = 128;
    const std::int64_t words = static_cast<std::int64_t>(flags()) * kWordsPerFlag +
                               shape_.ranks * shape_.channels + shape_.experts;
    return (words * 4 + kAlignment - 1) / kAlignment * kAlignment;
  }

  std::uint32_t* words_;
  ExchangeExtents shape_;
};

/// Tokens of a channel.
struct TokenRange {
  int begin;
  int end;
};
PIPECAST_HOST_DEVICE TokenRange tokens_of(int channel, int channels, int tokens) {
  const int share = (tokens + channels - 1) / channels;
  const int begin = channel * share < tokens ? channel * share : tokens;
  return {begin, begin + share < tokens ? begin + share : tokens};
}

/// Rows that a sender publishes together: at most half a ring, so that it fills one half while the
/// other is read.
PIPECAST_HOST_DEVICE int rows_per_publication(int slots) {
  const int half = (slots + 1) / 2;
  return half < kRowsPerPublication ? half : kRowsPerPublication;
}
/// Rows that a reader may wait for before it gives back the ones before them. The sender needs room
/// for the whole batch in which the last of them stands: with more than these both would wait for
/// each other.
PIPECAST_HOST_DEVICE int rows_per_wait(int slots) {
  return slots + 1 - rows_per_publication(slots);
}

/// The warps of a block that serve one peer.
struct PeerGroup {
  int peer;
  int warp;  // among kWarpsPerPeer

  __device__ __forceinline__ static PeerGroup own() {
    return {warp_index() / kWarpsPerPeer, warp_index() % kWarpsPerPeer};
  }
  __device__ __forceinline__ bool leads() const { return warp == 0 && lane_index() == 0; }
  __device__ __forceinline__ void sync() const {
    named_barrier_sync(1 + peer, kWarpsPerPeer * kWarpSize);
  }
};

/// A sender's end of a ring: rows are written in turns by the warps of a group, and published some
/// at a time.
class RingWriter {
 public:
  /// @param reader  window of the rank that receives
  /// @param own     the sender's
  __device__ __forceinline__ RingWriter(const Window& reader, const Window& own, int channel,
                                        int rank, const PeerGroup& group,
                                        const ExchangeExtents& shape)
      : reader_(reader),
        head_(own.head(channel, group.peer)),
        tail_(reader.tail(channel, rank)),
        channel_(channel),
        rank_(rank),
        group_(group),
        slots_(shape.slots),
        step_(rows_per_publication(shape.slots)) {}

  /// Whether this warp writes the row; then `slot` is free for it. All warps of the group ask for
  /// every row, in order.
  __device__ __forceinline__ bool take(int row) {
    if (row % step_ == 0 && row + step_ > slots_) {
      // The acquire of one lane orders the whole warp's stores behind the reader's loads.
      if (lane_index() == 0) {
        wait_until_system(head_, static_cast<std::uint32_t>(row + step_ - slots_));
      }
      __syncwarp();
    }
    return row % kWarpsPerPeer == group_.warp;
  }
  __device__ __forceinline__ unsigned char* slot(int row) const {
    return reader_.slot(channel_, rank_, row);
  }
  /// After each row, and after the last one with `last`.
  __device__ __forceinline__ void publish(int rows, bool last) {
    if (last ? rows % step_ == 0 : rows % step_ != 0) return;
    group_.sync();
    if (group_.leads()) store_release_system(tail_, static_cast<std::uint32_t>(rows));
  }

 private:
  Window reader_;
  std::uint32_t* head_;
  std::uint32_t* tail_;
  int channel_;
  int rank_;
  PeerGroup group_;
  int slots_;
  int step_;
};

/// A warp copies pieces of 16 bytes that nobody writes while the kernel runs.
__device__ __forceinline__ void send_pieces(int4* to, const int4* from, int pieces) {
  for (int base = 0; base < pieces; base += kCopiesInFlight * kWarpSize) {
    int4 values[kCopiesInFlight];
#pragma unroll
    for (int i = 0; i < kCopiesInFlight; ++i) {
      const int at = base + i * kWarpSize + lane_index();
      if (at < pieces) values[i] = load_streaming(from + at);
    }
#pragma unroll
    for (int i = 0; i < kCopiesInFlight; ++i) {
      const int at = base + i * kWarpSize + lane_index();
      if (at < pieces) to[at] = values[i];
    }
  }
}

/// A warp copies pieces out of a slot. Plain loads: a peer wrote them while this kernel ran, and
/// the non-coherent path of load_streaming is for memory that is constant during a kernel.
__device__ __forceinline__ void receive_pieces(int4* to, const int4* from, int pieces) {
  for (int base = 0; base < pieces; base += kCopiesInFlight * kWarpSize) {
    int4 values[kCopiesInFlight];
#pragma unroll
    for (int i = 0; i < kCopiesInFlight; ++i) {
      const int at = base + i * kWarpSize + lane_index();
      if (at < pieces) values[i] = from[at];
    }
#pragma unroll
    for (int i = 0; i < kCopiesInFlight; ++i) {
      const int at = base + i * kWarpSize + lane_index();
      if (at < pieces) to[at] = values[i];
    }
  }
}

/// @throws DeviceError unless every rank can hold its part of the exchange
inline void check_exchange(const char* what, const ExchangeExtents& s) {
  if (s.ranks < 1 || s.ranks > kMostRanks || s.experts < s.ranks || s.experts % s.ranks != 0 ||
      s.top_k < 1 || s.top_k > kWarpSize || s.channels < 1 || s.slots < 1 || s.slot_bytes < 0 ||
      s.slot_bytes % kBytesPerPiece != 0) {
    throw DeviceError(std::string(what) +
                      ": 1 to 8 ranks that share the experts evenly, at most 32 choices, at least "
                      "one channel and slot");
  }
}

inline int exchange_threads(const ExchangeExtents& s) {
  return s.ranks * kWarpsPerPeer * kWarpSize;
}

}  // namespace pipecast::kernels
