#pragma once

/// hopper.hpp under g++. Copies land as late as the program allows, or at a time that the seed
/// picks; a wgmma executes when its warp waits for it, reads the operands through the real 64-bit
/// descriptor, and accumulates FP8 as Hopper does (numbers/tensor_core.hpp); BF16 products are
/// summed in FP64 and rounded to FP32 once per instruction. Not emulated: clusters and multicast,
/// 32- and 64-byte swizzles, wgmma across warps of a group that run apart (each warp's quarter
/// executes at that warp's own wait), register limits.
#include <cstdint>

namespace pipecast::kernels {

using Mbarrier = std::uint64_t;

struct TensorMap {
  MatrixWindow window;
};

/// @throws DeviceError where the hardware would refuse the map
TensorMap make_tensor_map(const MatrixWindow& window);

void mbarrier_init(Mbarrier* bar, int arrivals);
inline void mbarrier_init_fence() {}
void mbarrier_arrive(Mbarrier* bar);
void mbarrier_expect(Mbarrier* bar, int bytes);
void mbarrier_wait(Mbarrier* bar, int parity);

void tma_load(void* destination, const TensorMap& map, int column, int row, Mbarrier* bar);
void tma_store(const TensorMap& map, const void* source, int column, int row);
void tma_reduce_add(const TensorMap& map, const void* source, int column, int row);
void bulk_load(void* destination, const void* source, int bytes, Mbarrier* bar);
void bulk_store(void* destination, const void* source, int bytes);
void bulk_add(float* destination, const float* source, int bytes);
void bulk_commit();
inline void fence_async_proxy() {}

namespace emulation {

void wait_for_stores(int groups_left);
void fence_products();
void commit_products();
void wait_for_products(int groups_left);

struct ProductOperands {
  bool fp8;
  int columns;
  const std::uint32_t* fragment;  // left operand in registers, or null
  std::uint64_t a;
  std::uint64_t b;
  bool a_transposed;
  bool b_transposed;
  bool accumulate;
};
void issue_product(float* accumulators, const ProductOperands& operands);

}  // namespace emulation

template <int kGroups>
void bulk_wait_read() {
  emulation::wait_for_stores(kGroups);
}
template <int kGroups>
void bulk_wait() {
  emulation::wait_for_stores(kGroups);
}

/// Descriptor of an operand whose K is contiguous: rows of 128 bytes, eight to a swizzle atom.
inline std::uint64_t k_major(const void* pointer) {
  return static_cast<std::uint64_t>((shared_address(pointer) & 0x3ffffU) >> 4) | 1ULL << 16 |
         static_cast<std::uint64_t>(1024 >> 4) << 32 | 1ULL << 62;
}
/// Of an operand whose M or N is contiguous: for each k a row of 128 bytes (64 BF16), eight k to an
/// atom; the next 64 of M or N start `next_bytes` further.
inline std::uint64_t mn_major(const void* pointer, int next_bytes) {
  return static_cast<std::uint64_t>((shared_address(pointer) & 0x3ffffU) >> 4) |
         static_cast<std::uint64_t>(next_bytes >> 4) << 16 |
         static_cast<std::uint64_t>(1024 >> 4) << 32 | 1ULL << 62;
}

inline void wgmma_fence() { emulation::fence_products(); }
inline void wgmma_commit() { emulation::commit_products(); }
template <int kGroups>
void wgmma_wait() {
  emulation::wait_for_products(kGroups);
}

template <int kColumns>
void wgmma_e4m3(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
  emulation::issue_product(d, {true, kColumns, nullptr, a, b, false, false, accumulate});
}
template <int kColumns, Major kA, Major kB>
void wgmma_bf16(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
  emulation::issue_product(
      d, {false, kColumns, nullptr, a, b, kA == Major::kMN, kB == Major::kMN, accumulate});
}
template <int kColumns, Major kB>
void wgmma_bf16_registers(float (&d)[kColumns / 2], const std::uint32_t (&a)[4], std::uint64_t b,
                          bool accumulate) {
  emulation::issue_product(d, {false, kColumns, a, 0, b, false, kB == Major::kMN, accumulate});
}

template <int kRegisters>
void fewer_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void more_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

}  // namespace pipecast::kernels
