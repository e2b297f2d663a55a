#pragma once

/// hopper.hpp on the device: inline PTX. Sources: PTX ISA 8.x, sections on mbarrier, cp.async.bulk
/// and wgmma; CUDA Driver API for tensor maps.
#include <cuda.h>

#include <cstdint>

namespace pipecast::kernels {

using Mbarrier = std::uint64_t;
using TensorMap = CUtensorMap;

/// @throws DeviceError where the driver refuses the map
inline TensorMap make_tensor_map(const MatrixWindow& window) {
  using Encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                   const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                   CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  // From the driver at run time, so that programs start where there is none.
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                cudaEnableDefault, &found),
               "the driver's tensor maps");
    if (found != cudaDriverEntryPointSuccess) throw DeviceError("the driver has no tensor maps");
    return reinterpret_cast<Encode>(entry);
  }();
  const CUtensorMapDataType type = window.element == Element::kByte ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : window.element == Element::kBf16
                                       ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                       : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  const cuuint64_t extents[2] = {static_cast<cuuint64_t>(window.columns),
                                 static_cast<cuuint64_t>(window.rows)};
  const cuuint64_t strides[1] = {
      static_cast<cuuint64_t>(window.row_stride * bytes_of(window.element))};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(window.box_columns),
                             static_cast<cuuint32_t>(window.box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  TensorMap map;
  const CUresult status =
      encode(&map, type, 2, const_cast<void*>(window.base), extents, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             window.swizzle == Swizzle::k128Bytes ? CU_TENSOR_MAP_SWIZZLE_128B
                                                  : CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw DeviceError("cuTensorMapEncodeTiled refuses a matrix: error " +
                      std::to_string(static_cast<int>(status)));
  }
  return map;
}

__device__ __forceinline__ void mbarrier_init(Mbarrier* bar, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arrive(Mbarrier* bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(Mbarrier* bar, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)),
               "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void mbarrier_wait(Mbarrier* bar, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(shared_address(bar)),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void tma_load(void* destination, const TensorMap& map, int column,
                                         int row, Mbarrier* bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(destination)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(bar))
      : "memory");
}
__device__ __forceinline__ void tma_store(const TensorMap& map, const void* source, int column,
                                          int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
      "r"(column), "r"(row), "r"(shared_address(source))
      : "memory");
}
__device__ __forceinline__ void tma_reduce_add(const TensorMap& map, const void* source, int column,
                                               int row) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%1, %2}], [%3];" ::
          "l"(&map),
      "r"(column), "r"(row), "r"(shared_address(source))
      : "memory");
}
__device__ __forceinline__ void bulk_load(void* destination, const void* source, int bytes,
                                          Mbarrier* bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(destination)),
      "l"(source), "r"(bytes), "r"(shared_address(bar))
      : "memory");
}
__device__ __forceinline__ void bulk_store(void* destination, const void* source, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(destination),
               "r"(shared_address(source)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void bulk_add(float* destination, const float* source, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   destination),
               "r"(shared_address(source)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until all but the last `kGroups` groups have read shared memory.
template <int kGroups>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}
/// Until all but the last `kGroups` groups are written.
template <int kGroups>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroups) : "memory");
}
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ std::uint64_t k_major(const void* pointer) {
  return static_cast<std::uint64_t>((shared_address(pointer) & 0x3ffffU) >> 4) | 1ULL << 16 |
         static_cast<std::uint64_t>(1024 >> 4) << 32 | 1ULL << 62;
}
__device__ __forceinline__ std::uint64_t mn_major(const void* pointer, int next_bytes) {
  return static_cast<std::uint64_t>((shared_address(pointer) & 0x3ffffU) >> 4) |
         static_cast<std::uint64_t>(next_bytes >> 4) << 16 |
         static_cast<std::uint64_t>(1024 >> 4) << 32 | 1ULL << 62;
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kGroups>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
template <int kRegisters>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kColumns>
__device__ void wgmma_e4m3(float (&d)[kColumns / 2], std::uint64_t a, std::uint64_t b,
                           bool accumulate);
// The instruction names its accumulators one by one, so each width is spelled out: the list of
// registers in the text, the operands behind it, and the numbers of the operands that follow.
#define PIPECAST_TEXT_32                                                                        \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24," \
  "%25,%26,%27,%28,%29,%30,%31"
#define PIPECAST_TEXT_64                                                                      \
  PIPECAST_TEXT_32                                                                            \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PIPECAST_TEXT_96                                                                      \
  PIPECAST_TEXT_64                                                                            \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85," \
  "%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define PIPECAST_TEXT_128                                                                   \
  PIPECAST_TEXT_96                                                                          \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113," \
  "%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define PIPECAST_D8(at)                                                                          \
  "+f"(d[(at) + 0]), "+f"(d[(at) + 1]), "+f"(d[(at) + 2]), "+f"(d[(at) + 3]), "+f"(d[(at) + 4]), \
      "+f"(d[(at) + 5]), "+f"(d[(at) + 6]), "+f"(d[(at) + 7])
#define PIPECAST_D32(at) \
  PIPECAST_D8(at), PIPECAST_D8((at) + 8), PIPECAST_D8((at) + 16), PIPECAST_D8((at) + 24)
#define PIPECAST_OPERANDS_32 PIPECAST_D32(0)
#define PIPECAST_OPERANDS_64 PIPECAST_OPERANDS_32, PIPECAST_D32(32)
#define PIPECAST_OPERANDS_96 PIPECAST_OPERANDS_64, PIPECAST_D32(64)
#define PIPECAST_OPERANDS_128 PIPECAST_OPERANDS_96, PIPECAST_D32(96)

#define PIPECAST_WGMMA(N, COUNT, A, B, C, D, E, F, G)                                              \
  template <>                                                                                      \
  __device__ __forceinline__ void wgmma_e4m3<N>(float(&d)[COUNT], std::uint64_t a,                 \
                                                std::uint64_t b, bool accumulate) {                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " C                                             \
                 ", 0;\n"                                                                          \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k32.f32.e4m3.e4m3 " PIPECAST_TEXT_##COUNT \
                 "}, " A ", " B ", p, 1, 1;\n}\n"                                                  \
                 : PIPECAST_OPERANDS_##COUNT                                                       \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                             \
  }                                                                                                \
  template <Major kA, Major kB>                                                                    \
  __device__ __forceinline__ void wgmma_bf16_##N(float(&d)[COUNT], std::uint64_t a,                \
                                                 std::uint64_t b, bool accumulate) {               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " C                                             \
                 ", 0;\n"                                                                          \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 " PIPECAST_TEXT_##COUNT \
                 "}, " A ", " B ", p, 1, 1, " D ", " E ";\n}\n"                                    \
                 : PIPECAST_OPERANDS_##COUNT                                                       \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kA == Major::kMN),       \
                   "n"(kB == Major::kMN));                                                         \
  }                                                                                                \
  template <Major kB>                                                                              \
  __device__ __forceinline__ void wgmma_bf16_registers_##N(                                        \
      float(&d)[COUNT], const std::uint32_t(&a)[4], std::uint64_t b, bool accumulate) {            \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " F                                             \
                 ", 0;\n"                                                                          \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 " PIPECAST_TEXT_##COUNT \
                 "}, {" A ", " B ", " C ", " D "}, " E ", p, 1, 1, " G ";\n}\n"                    \
                 : PIPECAST_OPERANDS_##COUNT                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                             \
                   "r"(static_cast<int>(accumulate)), "n"(kB == Major::kMN));                      \
  }

PIPECAST_WGMMA(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
PIPECAST_WGMMA(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
PIPECAST_WGMMA(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102")
PIPECAST_WGMMA(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134")

template <int kColumns, Major kA, Major kB>
__device__ __forceinline__ void wgmma_bf16(float (&d)[kColumns / 2], std::uint64_t a,
                                           std::uint64_t b, bool accumulate) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 192 || kColumns == 256, "");
  if constexpr (kColumns == 64) wgmma_bf16_64<kA, kB>(d, a, b, accumulate);
  if constexpr (kColumns == 128) wgmma_bf16_128<kA, kB>(d, a, b, accumulate);
  if constexpr (kColumns == 192) wgmma_bf16_192<kA, kB>(d, a, b, accumulate);
  if constexpr (kColumns == 256) wgmma_bf16_256<kA, kB>(d, a, b, accumulate);
}
template <int kColumns, Major kB>
__device__ __forceinline__ void wgmma_bf16_registers(float (&d)[kColumns / 2],
                                                     const std::uint32_t (&a)[4], std::uint64_t b,
                                                     bool accumulate) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 192 || kColumns == 256, "");
  if constexpr (kColumns == 64) wgmma_bf16_registers_64<kB>(d, a, b, accumulate);
  if constexpr (kColumns == 128) wgmma_bf16_registers_128<kB>(d, a, b, accumulate);
  if constexpr (kColumns == 192) wgmma_bf16_registers_192<kB>(d, a, b, accumulate);
  if constexpr (kColumns == 256) wgmma_bf16_registers_256<kB>(d, a, b, accumulate);
}

#undef PIPECAST_WGMMA
#undef PIPECAST_OPERANDS_128
#undef PIPECAST_OPERANDS_96
#undef PIPECAST_OPERANDS_64
#undef PIPECAST_OPERANDS_32
#undef PIPECAST_D32
#undef PIPECAST_D8
#undef PIPECAST_TEXT_128
#undef PIPECAST_TEXT_96
#undef PIPECAST_TEXT_64
#undef PIPECAST_TEXT_32

}  // namespace pipecast::kernels
