#include "kernels/exchange/exchange.hpp"
#include "kernels/exchange/window.hpp"
#include "kernels/routing/gate.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;

struct LayoutShared {
  int rows[kMostRanks];
};

/// One block counts one channel after the other.
__global__ void __launch_bounds__(kThreads)
    ep_layout_kernel(const int* __restrict__ chosen, std::uint32_t* __restrict__ ranks_of_token,
                     int* __restrict__ channel_counts, ExchangeExtents shape, int tokens) {
  auto& shared = shared_memory<LayoutShared>();
  const int per_rank = shape.experts / shape.ranks;
  for (int channel = block_index(); channel < shape.channels; channel += grid_size()) {
    if (thread_index() < shape.ranks) shared.rows[thread_index()] = 0;
    __syncthreads();
    const TokenRange range = tokens_of(channel, shape.channels, tokens);
    for (int token = range.begin + thread_index(); token < range.end; token += kThreads) {
      std::uint32_t ranks = 0;
      for (int k = 0; k < shape.top_k; ++k) {
        const int expert = __ldg(chosen + static_cast<std::int64_t>(token) * shape.top_k + k);
        if (expert >= 0) ranks |= 1U << (expert / per_rank);
      }
      ranks_of_token[token] = ranks;
      for (int rank = 0; rank < shape.ranks; ++rank) {
        if ((ranks >> rank & 1U) != 0) atomicAdd(&shared.rows[rank], 1);
      }
    }
    __syncthreads();
    if (thread_index() < shape.ranks) {
      channel_counts[thread_index() * shape.channels + channel] = shared.rows[thread_index()];
    }
    __syncthreads();
  }
}

/// All ranks reach this point before any leaves it, and see what the others wrote before.
__device__ __forceinline__ void barrier_of_ranks(const ExchangeExtents& shape,
                                                 const ExchangeRank& self, std::uint32_t number) {
  __syncthreads();
  const int peer = thread_index();
  if (peer < shape.ranks) {
    store_release_system(Window(self.windows[peer], shape).arrivals(self.rank), number);
    wait_until_system(Window(self.windows[self.rank], shape).arrivals(peer), number);
  }
  __syncthreads();
}

/// This rank's counts into the windows of those that will receive.
__device__ __forceinline__ void send_counts(const ExchangeExtents& shape, const ExchangeRank& self,
                                            const int* channel_counts, const int* expert_counts) {
  const int per_rank = shape.experts / shape.ranks;
  for (int peer = 0; peer < shape.ranks; ++peer) {
    const Window window(self.windows[peer], shape);
    for (int i = thread_index(); i < shape.channels; i += kThreads) {
      window.counts(self.rank)[i] =
          static_cast<std::uint32_t>(channel_counts[peer * shape.channels + i]);
    }
    for (int i = thread_index(); i < per_rank; i += kThreads) {
      window.expert_counts(self.rank)[i] =
          static_cast<std::uint32_t>(expert_counts[peer * per_rank + i]);
    }
  }
}

/// Running sums of all ranks' channels by one warp, and of the local experts by the others.
__device__ __forceinline__ void receive_counts(const ExchangeExtents& shape, const Window& window,
                                               int* first_rows, int* local_counts) {
  if (warp_index() == 0) {
    const int streams = shape.ranks * shape.channels;
    int sum = 0;
    for (int base = 0; base < streams; base += kWarpSize) {
      const int at = base + lane_index();
      const int rows = at < streams ? static_cast<int>(window.counts(0)[at]) : 0;
      int inclusive = rows;
      for (int distance = 1; distance < kWarpSize; distance *= 2) {
        const int before = __shfl_up_sync(kAllLanes, inclusive, distance);
        if (lane_index() >= distance) inclusive += before;
      }
      if (at < streams) first_rows[at] = sum + inclusive - rows;
      sum += __shfl_sync(kAllLanes, inclusive, kWarpSize - 1);
    }
    if (lane_index() == 0) first_rows[streams] = sum;
    return;
  }
  for (int expert = thread_index() - kWarpSize; expert < shape.experts / shape.ranks;
       expert += kThreads - kWarpSize) {
    std::uint32_t sum = 0;
    for (int rank = 0; rank < shape.ranks; ++rank) sum += window.expert_counts(rank)[expert];
    local_counts[expert] = static_cast<int>(sum);
  }
}

struct NotifyCounts {
  const int* channel_counts;  // null: the ways are known
  const int* expert_counts;
  int* first_rows;
  int* local_counts;
};

__global__ void __launch_bounds__(kThreads)
    ep_notify_kernel(const __grid_constant__ ExchangeExtents shape,
                     const __grid_constant__ ExchangeRank self, NotifyCounts counts) {
  const Window window(self.windows[self.rank], shape);
  const std::uint32_t calls = *window.calls();
  // 1. Nobody still sends to this rank, or reads what it sent: the rings may start anew.
  barrier_of_ranks(shape, self, calls + 1);
  const int flags = shape.channels * shape.ranks;
  for (int i = thread_index(); i < flags; i += kThreads) {
    *window.head(i / shape.ranks, i % shape.ranks) = 0;
    *window.tail(i / shape.ranks, i % shape.ranks) = 0;
  }
  if (counts.channel_counts != nullptr) {
    send_counts(shape, self, counts.channel_counts, counts.expert_counts);
  }
  // 2. All rings are empty, and all counts are here.
  barrier_of_ranks(shape, self, calls + 2);
  if (thread_index() == 0) *window.calls() = calls + 2;
  if (counts.channel_counts != nullptr) {
    receive_counts(shape, window, counts.first_rows, counts.local_counts);
  }
}

}  // namespace

int dispatch_slot_bytes(int row_bytes, int scales, int top_k) {
  const int words = scales + 2 * top_k + 1;  // experts and weights, the token's number
  return row_bytes + (4 * words + kBytesPerPiece - 1) / kBytesPerPiece * kBytesPerPiece;
}

int combine_slot_bytes(int columns, int top_k) {
  return 2 * columns + (4 * top_k + kBytesPerPiece - 1) / kBytesPerPiece * kBytesPerPiece;
}

std::size_t exchange_window_bytes(const ExchangeExtents& shape) {
  check_exchange("exchange_window_bytes", shape);
  return static_cast<std::size_t>(Window(nullptr, shape).bytes());
}

void ep_layout(const EpLayout& p) {
  check_exchange("ep_layout", p.shape);
  launch(ep_layout_kernel,
         {persistent_grid(p.shape.channels, p.sms, 1), kThreads, sizeof(LayoutShared)}, p.chosen,
         p.ranks_of_token, p.channel_counts, p.shape, p.tokens);
  expert_count({p.chosen, p.expert_counts, static_cast<std::int64_t>(p.tokens) * p.shape.top_k,
                p.shape.experts, p.sms});
}

void ep_notify(const EpNotify& p) {
  check_exchange("ep_notify", p.shape);
  launch(ep_notify_kernel, {1, kThreads, 0}, p.shape, p.self,
         NotifyCounts{p.channel_counts, p.expert_counts, p.first_rows, p.local_counts});
}

void ep_cached_notify(const EpCachedNotify& p) {
  check_exchange("ep_cached_notify", p.shape);
  launch(ep_notify_kernel, {1, kThreads, 0}, p.shape, p.self,
         NotifyCounts{nullptr, nullptr, nullptr, nullptr});
}

}  // namespace pipecast::kernels
