#include "kernels/probes/one_product.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kRows = 64;
constexpr int kRowBytes = 128;
constexpr int kBf16Depth = 64;  // elements in 128 bytes
constexpr int kMostColumns = 256;

struct Shared {
  alignas(1024) unsigned char a[kRows * kRowBytes];
  alignas(1024) unsigned char b[kMostColumns * kRowBytes];
  Mbarrier full;
};

/// Both operands by tensor copies: A in one box; B in one, or in a box per 64 columns where these
/// are contiguous.
__device__ __forceinline__ void load(Shared& shared, const TensorMap& a, const TensorMap& b,
                                     int columns, bool b_by_k) {
  if (thread_index() == 0) {
    mbarrier_init(&shared.full, 1);
    mbarrier_init_fence();
    mbarrier_expect(&shared.full, (kRows + columns) * kRowBytes);
    tma_load(shared.a, a, 0, 0, &shared.full);
    if (b_by_k) {
      tma_load(shared.b, b, 0, 0, &shared.full);
    } else {
      for (int column = 0; column < columns; column += 64) {
        tma_load(shared.b + column * kRowBytes, b, column, 0, &shared.full);
      }
    }
  }
  __syncthreads();
  mbarrier_wait(&shared.full, 0);
}

template <int kColumns>
__device__ __forceinline__ void store(const float (&sum)[kColumns / 2], float* d) {
  const int row = warp_index() * 16 + lane_index() / 4;
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int column = i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
    d[(row + i / 2 % 2 * 8) * kColumns + column] = sum[i];
  }
}

template <int kColumns>
__global__ void fp8_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                           float* d) {
  auto& shared = shared_memory<Shared>();
  load(shared, a, b, kColumns, true);
  float sum[kColumns / 2];
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kRowBytes; k += 32) {
    wgmma_e4m3<kColumns>(sum, k_major(shared.a + k), k_major(shared.b + k), k != 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store<kColumns>(sum, d);
}

template <int kColumns, Major kA, Major kB>
__global__ void bf16_kernel(const __grid_constant__ TensorMap a,
                            const __grid_constant__ TensorMap b, float* d) {
  auto& shared = shared_memory<Shared>();
  load(shared, a, b, kColumns, kB == Major::kK);
  float sum[kColumns / 2];
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kBf16Depth; k += 16) {
    const std::uint64_t left = kA == Major::kK ? k_major(shared.a + k * 2)
                                               : mn_major(shared.a + k * kRowBytes, kRowBytes * 64);
    const std::uint64_t right = kB == Major::kK
                                    ? k_major(shared.b + k * 2)
                                    : mn_major(shared.b + k * kRowBytes, kRowBytes * 64);
    wgmma_bf16<kColumns, kA, kB>(sum, left, right, k != 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store<kColumns>(sum, d);
}

template <int kColumns, Major kB>
__global__ void bf16_registers_kernel(const Bf16* a, const __grid_constant__ TensorMap a_map,
                                      const __grid_constant__ TensorMap b, float* d) {
  auto& shared = shared_memory<Shared>();
  load(shared, a_map, b, kColumns, kB == Major::kK);
  const int row = warp_index() * 16 + lane_index() / 4;
  float sum[kColumns / 2];
  std::uint32_t fragments[kBf16Depth / 16][4];
#pragma unroll
  for (int step = 0; step < kBf16Depth / 16; ++step) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const int k = step * 16 + word / 2 * 8 + lane_index() % 4 * 2;
      fragments[step][word] =
          *reinterpret_cast<const std::uint32_t*>(a + (row + word % 2 * 8) * kBf16Depth + k);
    }
  }
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kBf16Depth / 16; ++step) {
    const std::uint64_t right = kB == Major::kK
                                    ? k_major(shared.b + step * 32)
                                    : mn_major(shared.b + step * 16 * kRowBytes, kRowBytes * 64);
    wgmma_bf16_registers<kColumns, kB>(sum, fragments[step], right, step != 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store<kColumns>(sum, d);
}

constexpr LaunchShape kOneWarpgroup{1, kWarpgroupSize, sizeof(Shared)};

template <int kColumns>
void launch_fp8(const E4m3* a, const E4m3* b, float* d) {
  const auto window = [](const E4m3* base, int rows) {
    return make_tensor_map(
        {base, Element::kByte, rows, kRowBytes, kRowBytes, rows, kRowBytes, Swizzle::k128Bytes});
  };
  launch(fp8_kernel<kColumns>, kOneWarpgroup, window(a, kRows), window(b, kColumns), d);
}

template <int kColumns>
void launch_bf16(const OneProductBf16& p) {
  const auto window = [](const Bf16* base, int extent, bool by_k) {
    const int rows = by_k ? extent : kBf16Depth;
    const int columns = by_k ? kBf16Depth : extent;
    return make_tensor_map(
        {base, Element::kBf16, rows, columns, columns, rows, kBf16Depth, Swizzle::k128Bytes});
  };
  const TensorMap a = window(p.a, kRows, p.a_by_k);
  const TensorMap b = window(p.b, kColumns, p.b_by_k);
  if (p.a_in_registers) {
    const auto kernel = p.b_by_k ? bf16_registers_kernel<kColumns, Major::kK>
                                 : bf16_registers_kernel<kColumns, Major::kMN>;
    launch(kernel, kOneWarpgroup, p.a, a, b, p.d);
  } else if (p.a_by_k) {
    const auto kernel = p.b_by_k ? bf16_kernel<kColumns, Major::kK, Major::kK>
                                 : bf16_kernel<kColumns, Major::kK, Major::kMN>;
    launch(kernel, kOneWarpgroup, a, b, p.d);
  } else {
    const auto kernel = p.b_by_k ? bf16_kernel<kColumns, Major::kMN, Major::kK>
                                 : bf16_kernel<kColumns, Major::kMN, Major::kMN>;
    launch(kernel, kOneWarpgroup, a, b, p.d);
  }
}

}  // namespace

void one_product_fp8(const E4m3* a, const E4m3* b, float* d, int n) {
  switch (n) {
    case 64:
      return launch_fp8<64>(a, b, d);
    case 128:
      return launch_fp8<128>(a, b, d);
    case 192:
      return launch_fp8<192>(a, b, d);
    case 256:
      return launch_fp8<256>(a, b, d);
    default:
      throw DeviceError("one_product_fp8: n is 64, 128, 192 or 256");
  }
}

void one_product_bf16(const OneProductBf16& problem) {
  if (problem.a_in_registers && !problem.a_by_k) {
    throw DeviceError("one_product_bf16: a fragment is read with K contiguous");
  }
  switch (problem.n) {
    case 64:
      return launch_bf16<64>(problem);
    case 128:
      return launch_bf16<128>(problem);
    case 192:
      return launch_bf16<192>(problem);
    case 256:
      return launch_bf16<256>(problem);
    default:
      throw DeviceError("one_product_bf16: n is 64, 128, 192 or 256");
  }
}

}  // namespace pipecast::kernels
