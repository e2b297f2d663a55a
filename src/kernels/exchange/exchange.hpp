#pragma once

/// Exchange of token rows between the ranks of one node (NVLink): each rank's kernels write into
/// the receive buffers of the others. The design is DeepEP's intranode one (github.com/deepseek-ai/
/// DeepEP), in our own words:
///
/// - A channel is a pair of SMs, one that sends and one that receives; it moves an equal share of a
///   rank's tokens. So a kernel takes 2 * channels SMs.
/// - For each channel and pair of ranks there is a ring of slots in the receiver's window. The
///   sender counts the rows that it has written (tail, kept beside the ring), the receiver those
///   that it has read (head, kept at the sender), each with a release store to the other's memory.
/// - Rows keep the order of tokens, so where a row arrives follows from counts exchanged before.
///
/// Order of calls, on every rank: ep_layout, ep_notify, ep_dispatch; ep_cached_notify, ep_combine.
/// A second dispatch along the same ways (a gradient) takes ep_cached_notify and what the first one
/// left. ep_notify, ep_cached_notify, ep_dispatch and ep_combine wait for the other ranks' same
/// call: see run_ranks_together.
#include <cstddef>
#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

constexpr int kMostRanks = 8;

/// What all ranks of an exchange agree on.
struct ExchangeExtents {
  int ranks;       // 1 to 8
  int experts;     // of all ranks, divisible by ranks: expert e lives on rank e / (experts / ranks)
  int top_k;       // at most 32
  int channels;    // a kernel takes twice as many SMs
  int slots;       // rows in the ring of a channel and a pair of ranks
  int slot_bytes;  // the larger of the two below
};
/// Bytes of a slot for rows of `row_bytes` with `scales` FP32 scales, or for combine's BF16 rows.
int dispatch_slot_bytes(int row_bytes, int scales, int top_k);
int combine_slot_bytes(int columns, int top_k);

/// Memory of one rank that all ranks reach. Filled with zeros once, before the first call.
std::size_t exchange_window_bytes(const ExchangeExtents& shape);

struct ExchangeRank {
  void* windows[kMostRanks];  // of every rank, as this rank's GPU sees them
  int rank;
};

/// Where each token goes.
struct EpLayout {
  ExchangeExtents shape;
  const int* chosen;              // tokens x top_k: expert, or negative for none
  std::uint32_t* ranks_of_token;  // tokens: a bit for each rank that holds one of its experts
  int* channel_counts;            // ranks x channels: rows for each rank
  int* expert_counts;             // experts: choices
  int tokens;
  int sms;  // how many SMs the kernel may use; 0 for all
};
/// @throws DeviceError on extents outside of those above, or a failed launch
void ep_layout(const EpLayout& problem);

/// Tells every rank what it will receive, after all ranks have left the call before.
struct EpNotify {
  ExchangeExtents shape;
  ExchangeRank self;
  const int* channel_counts;  // as ep_layout left them
  const int* expert_counts;
  int* first_rows;    // ranks * channels + 1: first row received from each rank (slow) and channel
                      // (fast), then the number of rows
  int* local_counts;  // experts / ranks: choices received by each local expert
};
void ep_notify(const EpNotify& problem);

/// The same without counts, for ways that are known.
struct EpCachedNotify {
  ExchangeExtents shape;
  ExchangeRank self;
};
void ep_cached_notify(const EpCachedNotify& problem);

/// Sends each token once to every rank that holds one of its experts; received rows are in the
/// order of sending rank, then token. row_bytes is a multiple of 16.
struct EpDispatch {
  ExchangeExtents shape;
  ExchangeRank self;
  const void* rows;      // tokens x row_bytes
  const float* scales;   // tokens x scale_count, or null where scale_count is 0
  const int* chosen;     // tokens x top_k; null: experts and weights stay
  const float* weights;  // tokens x top_k
  const std::uint32_t* ranks_of_token;
  const int* first_rows;  // as ep_notify left them
  void* received_rows;
  float* received_scales;
  int* received_experts;    // received x top_k: local expert, or -1 for another rank's
  float* received_weights;  // received x top_k: zero where the expert is -1
  int* received_tokens;     // received: the token's number on its rank
  int* sent_rows;           // tokens x ranks: place in the stream of channel and rank, or -1
  int tokens;
  int row_bytes;
  int scale_count;
};
void ep_dispatch(const EpDispatch& problem);

/// Sums what came back of every token, in FP32, from rank 0 upwards: output = addends + rows. A
/// token that went nowhere is the sum of its addends. columns is a multiple of 8.
struct EpCombine {
  ExchangeExtents shape;
  ExchangeRank self;
  const Bf16* rows;        // received x columns, in the order in which they were received
  const float* weights;    // received x top_k (gradients of routing weights), or null
  const int* first_rows;   // as ep_notify left them
  const int* sent_rows;    // as ep_dispatch left them
  const Bf16* addends[2];  // tokens x columns (shared expert, residual), or null
  Bf16* output;            // tokens x columns
  float* output_weights;   // tokens x top_k, sums over ranks; null without weights
  int tokens;
  int columns;
};
void ep_combine(const EpCombine& problem);

}  // namespace pipecast::kernels
