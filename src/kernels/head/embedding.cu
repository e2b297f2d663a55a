#include "kernels/head/embedding.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kInFlight = 4;  // 16-byte pieces of a thread at a time
constexpr int kLookupBlocksPerSm = 8;
constexpr int kGradBlocksPerSm = 2;

__global__ void __launch_bounds__(kThreads)
    embedding_lookup_kernel(const int4* __restrict__ table, const int* __restrict__ tokens,
                            int4* __restrict__ output, int rows, int pieces) {
  const int lane = lane_index();
  for (int row = block_index() * kWarps + warp_index(); row < rows; row += grid_size() * kWarps) {
    const int token = __ldg(tokens + row);
    const int4* from = table + static_cast<std::int64_t>(token) * pieces;
    int4* to = output + static_cast<std::int64_t>(row) * pieces;
    for (int base = 0; base < pieces; base += kInFlight * kWarpSize) {
      int4 values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kWarpSize + lane;
        values[i] = token >= 0 && at < pieces ? __ldg(from + at) : make_int4(0, 0, 0, 0);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kWarpSize + lane;
        if (at < pieces) to[at] = values[i];
      }
    }
  }
}

struct GradShared {
  unsigned ballots[kWarps];
  int matches[kThreads];
};

/// Whether any thread of the block says yes.
__device__ __forceinline__ bool block_any(GradShared& shared, bool predicate) {
  const unsigned ballot = __ballot_sync(kAllLanes, predicate);
  if (lane_index() == 0) shared.ballots[warp_index()] = ballot;
  __syncthreads();
  unsigned any = 0;
  for (const unsigned one : shared.ballots) any |= one;
  __syncthreads();
  return any != 0;
}

/// Rows among [base, base + kThreads) that hold the token, in order, in shared.matches.
__device__ __forceinline__ int find_matches(GradShared& shared, const int* tokens, int token,
                                            int base, int rows) {
  const int row = base + thread_index();
  const bool match = row < rows && __ldg(tokens + row) == token;
  const unsigned ballot = __ballot_sync(kAllLanes, match);
  if (lane_index() == 0) shared.ballots[warp_index()] = ballot;
  __syncthreads();
  int before = __popc(ballot & ((1U << lane_index()) - 1U));
  int count = 0;
  for (int warp = 0; warp < kWarps; ++warp) {
    const int others = __popc(shared.ballots[warp]);
    before += warp < warp_index() ? others : 0;
    count += others;
  }
  if (match) shared.matches[before] = row;
  __syncthreads();
  return count;
}

__global__ void __launch_bounds__(kThreads)
    embedding_grad_kernel(const int4* __restrict__ output_grad, const int* __restrict__ tokens,
                          float* __restrict__ table_grad, int rows, int pieces) {
  auto& shared = shared_memory<GradShared>();
  for (int row = block_index(); row < rows; row += grid_size()) {
    const int token = __ldg(tokens + row);
    if (token < 0) continue;
    bool earlier = false;
    for (int i = thread_index(); i < row; i += kThreads) {
      earlier = earlier || __ldg(tokens + i) == token;
    }
    // The block of a token's first row adds up all of them.
    if (block_any(shared, earlier)) continue;
    for (int slice = 0; slice < pieces; slice += kInFlight * kThreads) {
      float sum[kInFlight][kBf16PerPiece] = {};
      for (int base = row; base < rows; base += kThreads) {
        const int count = find_matches(shared, tokens, token, base, rows);
        for (int match = 0; match < count; ++match) {
          const int4* from =
              output_grad + static_cast<std::int64_t>(shared.matches[match]) * pieces;
          int4 values[kInFlight];
#pragma unroll
          for (int i = 0; i < kInFlight; ++i) {
            const int at = slice + i * kThreads + thread_index();
            values[i] = at < pieces ? load_streaming(from + at) : make_int4(0, 0, 0, 0);
          }
#pragma unroll
          for (int i = 0; i < kInFlight; ++i) {
            float terms[kBf16PerPiece];
            unpack_bf16(values[i], terms);
#pragma unroll
            for (int j = 0; j < kBf16PerPiece; ++j) sum[i][j] += terms[j];
          }
        }
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = slice + i * kThreads + thread_index();
        if (at >= pieces) continue;
        float* place =
            table_grad + (static_cast<std::int64_t>(token) * pieces + at) * kBf16PerPiece;
        float before[kBf16PerPiece];
        load_fp32(place, before);
#pragma unroll
        for (int j = 0; j < kBf16PerPiece; ++j) before[j] += sum[i][j];
        store_fp32(place, before);
      }
    }
  }
}

void check_rows(const char* what, int rows, int columns) {
  if (rows < 0 || columns < 1 || columns % kBf16PerPiece != 0) {
    throw DeviceError(std::string(what) + ": columns is a multiple of 8");
  }
}

}  // namespace

void embedding_lookup(const EmbeddingLookup& p) {
  check_rows("embedding_lookup", p.rows, p.columns);
  if (p.rows == 0) return;
  launch(embedding_lookup_kernel,
         {persistent_grid((p.rows + kWarps - 1) / kWarps, p.sms, kLookupBlocksPerSm), kThreads, 0},
         reinterpret_cast<const int4*>(p.table), p.tokens, reinterpret_cast<int4*>(p.output),
         p.rows, p.columns / kBf16PerPiece);
}

void embedding_grad(const EmbeddingGrad& p) {
  check_rows("embedding_grad", p.rows, p.columns);
  if (p.rows == 0) return;
  launch(embedding_grad_kernel,
         {persistent_grid(p.rows, p.sms, kGradBlocksPerSm), kThreads, sizeof(GradShared)},
         reinterpret_cast<const int4*>(p.output_grad), p.tokens, p.table_grad, p.rows,
         p.columns / kBf16PerPiece);
}

}  // namespace pipecast::kernels
