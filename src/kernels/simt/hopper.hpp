#pragma once

/// The parts of Hopper (compute capability 9.0a) that kernels use, beyond simt.hpp. On the device
/// they are inline PTX (PTX ISA 8.0 and later); under g++ an emulation, see
/// simt/emulation/hopper.hpp.
///
/// Barriers for asynchronous copies
///   mbarrier_init(bar, arrivals), mbarrier_init_fence(), mbarrier_arrive(bar),
///   mbarrier_expect(bar, bytes)          arrives, and expects that many bytes more
///   mbarrier_wait(bar, parity)           until the phase of that parity has completed
/// Bulk copies
///   make_tensor_map(...)                 on the host: a matrix and the box that one copy moves
///   tma_load(destination, map, column, row, bar)     zeros outside of the matrix
///   tma_store(map, source, column, row)              nothing outside of the matrix
///   tma_reduce_add(map, source, column, row)         adds FP32 to what the matrix holds
///   bulk_load(destination, source, bytes, bar), bulk_store(destination, source, bytes)
///   bulk_add(destination, source, bytes)             FP32 sums into global memory
///   bulk_commit(), bulk_wait_read<n>(), bulk_wait<n>()   groups of stores, per thread
///   fence_async_proxy()                  before copies or wgmma read what threads wrote to shared
///   memory
/// Matrix products of a warpgroup: D[64, N] (+)= A[64, K] * B[K, N], K of 32 bytes
///   k_major(p), mn_major(p, bytes)       descriptors of operands in shared memory, 128-byte
///   swizzle wgmma_e4m3<N>(d, a, b, accumulate), wgmma_bf16<N, kA, kB>(d, a, b, accumulate),
///   wgmma_bf16_registers<N, kB>(d, fragment, b, accumulate)
///   wgmma_fence(), wgmma_commit(), wgmma_wait<n>()
/// Registers of a warpgroup: fewer_registers<n>(), more_registers<n>()
///
/// Accumulators, thread t of the warpgroup, l = t % 32: d[4 j + 2 h + i] is row 16 (t / 32) + l / 4
/// + 8 h, column 8 j + 2 (l % 4) + i, for h and i of 0 and 1. The fragment of a left operand in
/// registers, K = 16 BF16: word 2 g + h holds row (as above), elements 8 g + 2 (l % 4) and the next
/// of K.
#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

/// Elements of a tensor map.
enum class Element { kByte, kBf16, kFp32 };

/// How a bulk tensor copy lays its box into shared memory: rows one after the other, or with the
/// 16-byte pieces of each 128-byte row exchanged by the row's number modulo 8 (the box is then 128
/// bytes wide and starts at a multiple of 1,024).
enum class Swizzle { kNone, k128Bytes };

/// A row-major matrix in global memory and the box that one copy moves. The base is a multiple of
/// 16 bytes and so is `row_stride`.
struct MatrixWindow {
  const void* base;
  Element element;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t row_stride;  // elements
  int box_rows;             // at most 256
  int box_columns;
  Swizzle swizzle;
};

/// Which index of an operand is contiguous in shared memory. FP8 knows only kK.
enum class Major { kK, kMN };

constexpr int bytes_of(Element element) {
  return element == Element::kByte ? 1 : element == Element::kBf16 ? 2 : 4;
}

}  // namespace pipecast::kernels

#if defined(__CUDACC__)
#include "kernels/simt/hopper_cuda.hpp"
#else
#include "kernels/simt/emulation/hopper.hpp"
#endif
