/// Time of a matrix product on some SMs of a GPU, tile by tile.
///
/// A persistent thread block per SM computes one output tile after another. A tile's main loop
/// takes, per block of K (128 bytes of a row), the tensor cores' cycles; FP8 kernels with scales
/// also wait for the tensor cores to drain and add the partial sums to FP32 registers on the CUDA
/// cores, which the other of two warpgroups hides in part. Every wave ends with an epilogue. HBM
/// streams meanwhile. The clock is what the chip sustains under that load.
///
/// Sources: DeepSeek-V3 report (arXiv 2412.19437), section 3.3.2; tiles and waves as in
/// DeepGEMM; the constants are fitted on measured tables (configs/calibration/).
/// Not modelled: bank conflicts, the order in which tiles meet in L2 beyond one raster, stream-K,
/// noise of the launch.
#pragma once

#include "model/operations/operation.hpp"
#include "model/ops/gemm_tile.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

enum class ProductKind : std::uint8_t { kFp8, kFp8Gradient, kBf16 };

/// A product as the model sees it.
struct Product {
  ProductKind kind{};
  Fp8Rows rows = Fp8Rows::kDense;  ///< tiles that an FP8 kernel of this sort offers
  ProductExtents extents;
  ProductOptions options{};
  double flops = 0;               ///< useful ones
  double hbm_bytes = 0;           ///< every operand and result once
  double group_weight_bytes = 0;  ///< of it, B of one group
  /// Where groups are padded: bands of kRasterRows row blocks but the first of its group, each of
  /// which reads B once more if L2 cannot hold it.
  std::int64_t later_bands = 0;
};

/// Row blocks that stay in L2 while column blocks pass (DeepGEMM).
inline constexpr std::int64_t kRasterRows = 16;

/// Cycles of one tile's main loop per block of K.
struct TileLoop {
  double tensor = 0;     ///< tensor cores at work
  double promotion = 0;  ///< more, because partial sums are promoted
  double feed = 0;       ///< more, because operands come slower than that
  double from_l2 = 0;    ///< what operands need from L2, hidden or not
  double from_smem = 0;  ///< what operands need from shared memory, hidden or not

  [[nodiscard]] double cycles() const { return tensor + promotion + feed; }
};

TileLoop tile_loop(const Product& product, GemmTile tile, const GpuSpec& gpu,
                   const CalibrationSpec& calibration);

/// Bytes from and to HBM, with the re-reads of B where L2 cannot hold it beside a band of A: tiles
/// are visited in bands of kRasterRows row blocks.
double product_bytes(const Product& product, GemmTile tile, const GpuSpec& gpu);

/// Bytes per second at which operands stream.
double product_streaming_rate(const GpuSpec& gpu, const CalibrationSpec& calibration);

/// Seconds of the busiest SM at the clock that the product leaves the chip; launch and memory
/// apart.
double busy_seconds(const Product& product, const GpuSpec& gpu, const CalibrationSpec& calibration,
                    int sms);

/// Seconds of SMs and HBM together, which overlap imperfectly.
double overlapped_seconds(const ProductExtents& extents, double busy, double memory);

/// @throws Error if the GPU's tensor cores know no FP8
void require_fp8(const GpuSpec& gpu);

/// @param sms  1 .. gpu.sm_count
/// @throws Error for a tile that no kernel has
KernelCost product_cost(const Product& product, const GpuSpec& gpu,
                        const CalibrationSpec& calibration, int sms);

/// Seconds of the cast of an `rows` x `columns` BF16 matrix to FP8 that some tables include.
/// @throws Error for a calibration whose tables time products alone
double included_cast_seconds(std::int64_t rows, std::int64_t columns, const GpuSpec& gpu,
                             const CalibrationSpec& calibration);

}  // namespace pipecast
