#include "model/ops/gemm_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "model/ops/clock.hpp"

namespace pipecast {

namespace {

constexpr double kBlockBytes = 128;          // of a row of A or column of B per block of K
constexpr std::int64_t kWarpgroupRows = 64;  // rows of one tensor-core instruction

// Splits of K that cuBLAS's Hopper kernels offer.
constexpr std::array kSplits = {1, 2, 3, 4, 8, 16, 32};

bool is_fp8(const Product& product) { return product.kind != ProductKind::kBf16; }

double tensor_rate(const Product& product, const GpuSpec& gpu) {
  return gpu.tensor_flop_per_clock_per_sm(is_fp8(product) ? Precision::kFp8 : Precision::kBf16);
}

double k_per_block(const Product& product) {
  return is_fp8(product) ? kBlockBytes : kBlockBytes / 2;
}

double k_blocks(const Product& product) {
  const auto per_block = static_cast<std::int64_t>(k_per_block(product));
  return static_cast<double>(ceil_div(product.extents.k, per_block));
}

double warpgroups(GemmTile tile) { return tile.m <= kWarpgroupRows ? 1 : 2; }

double results(GemmTile tile) { return static_cast<double>(tile.m) * tile.n; }

/// Tiles whose columns are an odd multiple of 16 cross the 128-wide blocks of weight scales inside
/// a register fragment; the measured surcharge grows with the square of the columns.
double unevenness(const Product& product, GemmTile tile, const ProductConstants& constants) {
  if (!is_fp8(product) || tile.n % 32 != 16) return 1;
  const double columns = tile.n / 128.0;
  return 1 + constants.uneven_columns.value * columns * columns;
}

bool promotes(const Product& product, const GpuSpec& gpu) {
  // Either the sums lack bits or the scales must be applied outside: both need the CUDA cores.
  const bool bits = product.options.full_accumulation || gpu.fp8_full_accumulation;
  const bool scales = product.options.native_scaling || gpu.fp8_native_scaling;
  return product.options.promotion && !(bits && scales);
}

/// Where two streams of work overlap imperfectly: the cube root of the sum of their cubes, which
/// is the longer one when they differ and 26 % more when they are equal (H100 tables).
double overlapped(double a, double b) { return std::cbrt(a * a * a + b * b * b); }

/// The same for a grouped product, whose tiles meet the cold weights of one expert after another:
/// exponent 2 instead of 3, 41 % more when they are equal (H800 tables, where the ratio of bytes to
/// products varies at equal products).
double overlapped_in_groups(double a, double b) { return std::hypot(a, b); }

/// What one launch comes to with one tile; all in cycles but the seconds.
struct Launch {
  GemmTile tile;
  TileLoop loop;
  double tiles = 0;
  double waves = 0;
  double blocks = 0;  // of K per tile
  double stall = 0;   // of a single wave, in the whole main loop
  double epilogue = 0;
  double partial = 0;
  double hbm_bytes = 0;
  double busy_cycles = 0;  // of the critical SM, launch and memory apart
  Frequency clock{};
  double busy_seconds = 0;
  double memory_seconds = 0;
  double reduction_seconds = 0;  // of the splits
  double seconds = 0;            // but for what comes before and after
};

/// Rows of all groups with those that fill them up to multiples of `block` or of the padding.
std::int64_t padded_rows(const ProductExtents& extents, std::int64_t block) {
  if (extents.padded_blocks > 0) return extents.padded_blocks * kPaddedRows;
  return extents.groups * ceil_div(extents.rows, block) * block;
}

/// What a launch of one wave takes more than one of many waves per block of K.
double one_wave_stall(const Product& product, const Launch& launch, int sms,
                      const ProductConstants& constants) {
  constexpr double kStallingShare = 0.8;  // of the SMs' rows; fewer were not slow
  if (launch.waves > 1 || product.kind != ProductKind::kFp8) return 0;
  const double loop = launch.loop.cycles();
  const double size = results(launch.tile);
  if (size == 20480) return loop * (constants.one_wave_factor.value - 1);
  if (size != 24576 && size != 32768) return 0;
  const double rows = static_cast<double>(padded_rows(product.extents, kWarpgroupRows));
  const double share = rows * static_cast<double>(launch.tile.column_blocks(product.extents)) /
                       (static_cast<double>(sms) * launch.tile.m);
  return share >= kStallingShare ? std::max(0.0, constants.one_wave_cycles.value - loop) : 0;
}

/// The tile that the options ask for or an FP8 kernel picks.
GemmTile tile_of(const Product& product, const CalibrationSpec& calibration, int sms) {
  const ProductOptions& options = product.options;
  if (options.block_m > 0 || options.block_n > 0) {
    const bool rows = options.block_m == 64 || options.block_m == 128 || options.block_m == 192 ||
                      options.block_m == 256;
    const bool columns =
        options.block_n >= 16 && options.block_n <= 256 && options.block_n % 16 == 0;
    require(
        rows && columns && options.block_m * options.block_n <= 32768,
        "no kernel has tiles of {} x {}: rows are 64, 128, 192 or 256, columns a multiple of 16 "
        "up to 256, and together at most 32,768 results fit the registers",
        options.block_m, options.block_n);
    require(product.extents.padded_blocks == 0 || options.block_m <= kPaddedRows,
            "groups that follow one another are padded to {} rows: no kernel has tiles of {} for "
            "them; see the option masked",
            kPaddedRows, options.block_m);
    return {options.block_m, options.block_n};
  }
  return fp8_tile(product.extents, product.rows, sms,
                  {static_cast<int>(calibration.product.tallest_tile.value),
                   static_cast<int>(calibration.product.widest_tile.value)});
}

/// The launch without its clock: work and bytes.
Launch outline(const Product& product, GemmTile tile, int splits, const GpuSpec& gpu,
               const CalibrationSpec& calibration, int sms) {
  const ProductConstants& constants = calibration.product;
  Launch launch{.tile = tile, .loop = tile_loop(product, tile, gpu, calibration)};
  const std::int64_t tiles = tile.count(product.extents) * splits;
  launch.tiles = static_cast<double>(tiles);
  launch.waves = static_cast<double>(ceil_div(tiles, std::int64_t{sms}));
  launch.blocks = std::ceil(k_blocks(product) / splits);
  launch.stall = launch.blocks * one_wave_stall(product, launch, sms, constants);
  const Constant& per_128 =
      is_fp8(product) ? constants.epilogue_cycles_fp8 : constants.epilogue_cycles_bf16;
  launch.epilogue =
      launch.waves * per_128.value * results(tile) / 128 * unevenness(product, tile, constants);
  // Rows beyond the matrix are filled with zeros one by one on their way into shared memory; the
  // padding between groups lies in memory.
  const std::int64_t missing =
      (kWarpgroupRows - product.extents.rows % kWarpgroupRows) % kWarpgroupRows;
  const bool filled = is_fp8(product) && product.extents.padded_blocks == 0;
  launch.partial =
      filled ? launch.blocks * constants.partial_row_cycles.value * static_cast<double>(missing)
             : 0;
  launch.busy_cycles = launch.waves * launch.blocks * launch.loop.cycles() + launch.stall +
                       launch.epilogue + launch.partial;
  launch.hbm_bytes = product_bytes(product, tile, gpu);
  launch.memory_seconds = launch.hbm_bytes / product_streaming_rate(gpu, calibration);
  if (splits > 1) {
    // A second kernel reads the FP32 sums that the first has written.
    const double sums = 2.0 * 4.0 * splits * static_cast<double>(product.extents.rows) *
                        static_cast<double>(product.extents.n * product.extents.groups);
    launch.reduction_seconds =
        constants.launch_us.value * 1e-6 + sums / product_streaming_rate(gpu, calibration);
  }
  launch.clock = gpu.max_clock;
  launch.busy_seconds = launch.busy_cycles / launch.clock.count();
  return launch;
}

/// The same at the clock that it leaves the chip.
Launch clocked(Launch launch, const Product& product, const GpuSpec& gpu,
               const CalibrationSpec& calibration) {
  // Padding draws power as well.
  const ProductExtents& extents = product.extents;
  const double flops = extents.padded_blocks > 0
                           ? 2.0 * static_cast<double>(extents.padded_blocks * kPaddedRows) *
                                 static_cast<double>(extents.n) * static_cast<double>(extents.k)
                           : product.flops;
  const double use = flops / (tensor_rate(product, gpu) * gpu.sm_count * launch.busy_cycles);
  launch.clock = sustained_clock(gpu, calibration, use, launch.busy_seconds);
  launch.busy_seconds = launch.busy_cycles / launch.clock.count();
  launch.seconds = overlapped_seconds(extents, launch.busy_seconds, launch.memory_seconds) +
                   launch.reduction_seconds;
  return launch;
}

/// Whether an outlined launch surely takes at least as long as a clocked one of the same product.
bool cannot_win(const Launch& launch, const Launch& best) {
  // No part is shorter. More cycles take more time even though the clock falls less, as long as a
  // loaded chip keeps half of its highest clock.
  if (launch.busy_cycles >= best.busy_cycles && launch.memory_seconds >= best.memory_seconds &&
      launch.reduction_seconds >= best.reduction_seconds) {
    return true;
  }
  // At the highest clock and with perfect overlap; rounding may bring it above the time itself.
  constexpr double kRounding = 1e-12;
  const double least =
      std::max(launch.busy_seconds, launch.memory_seconds) + launch.reduction_seconds;
  return least * (1 - kRounding) >= best.seconds;
}

Launch best_launch(const Product& product, const GpuSpec& gpu, const CalibrationSpec& calibration,
                   int sms) {
  const auto of = [&](GemmTile tile, int splits) {
    return outline(product, tile, splits, gpu, calibration, sms);
  };
  if (is_fp8(product) || product.options.block_m > 0 || product.options.block_n > 0) {
    const GemmTile tile = tile_of(product, calibration, sms);
    return clocked(of(tile, 1), product, gpu, calibration);
  }
  Launch best;
  for (const GemmTile tile : bf16_tiles()) {
    for (const int splits : kSplits) {
      if (splits > 1 && tile.count(product.extents) * splits > sms) break;  // enough blocks
      Launch launch = of(tile, splits);
      if (best.tile.m > 0 && cannot_win(launch, best)) continue;
      launch = clocked(launch, product, gpu, calibration);
      if (best.tile.m == 0 || launch.seconds < best.seconds) best = launch;
    }
  }
  return best;
}

Limit limit_of(const Launch& launch, const Product& product, double launch_seconds, int sms) {
  if (launch_seconds > launch.seconds) return Limit::kLatency;
  if (launch.memory_seconds > launch.busy_seconds) return Limit::kHbm;
  const double loops = launch.waves * launch.blocks;
  const double tensor = loops * launch.loop.tensor;
  const double promotion = loops * launch.loop.promotion;
  const double feed = loops * launch.loop.feed;
  if (std::max({tensor, promotion, feed}) < launch.epilogue + launch.partial + launch.stall) {
    return Limit::kLatency;
  }
  if (feed > 0) return launch.loop.from_l2 > launch.loop.from_smem ? Limit::kL2 : Limit::kSmem;
  // Half of the SMs' time without a tile.
  if (2 * launch.tiles < launch.waves * sms) return Limit::kOccupancy;
  return promotion > tensor && is_fp8(product) ? Limit::kPromotion : Limit::kTensor;
}

}  // namespace

double product_streaming_rate(const GpuSpec& gpu, const CalibrationSpec& calibration) {
  return gpu.hbm_bandwidth.count() * calibration.product.hbm.value;
}

double product_bytes(const Product& product, GemmTile tile, const GpuSpec& gpu) {
  const ProductExtents& extents = product.extents;
  const std::int64_t block = extents.padded_blocks > 0 ? kPaddedRows : tile.m;
  const double element = kBlockBytes / k_per_block(product);
  const double band = static_cast<double>(kRasterRows * block * extents.k) * element;
  const auto capacity = static_cast<double>(gpu.l2_capacity.count());
  if (band + product.group_weight_bytes <= capacity) return product.hbm_bytes;
  const std::int64_t bands = ceil_div(ceil_div(extents.rows, block), kRasterRows);
  const std::int64_t later_bands =
      extents.padded_blocks > 0 ? product.later_bands : extents.groups * (bands - 1);
  return product.hbm_bytes + static_cast<double>(later_bands) * product.group_weight_bytes;
}

double overlapped_seconds(const ProductExtents& extents, double busy, double memory) {
  return extents.groups > 1 ? overlapped_in_groups(busy, memory) : overlapped(busy, memory);
}

void require_fp8(const GpuSpec& gpu) {
  require(gpu.fp8_flop_per_clock_per_sm > 0,
          "{} has no fp8 tensor cores; set plan.precision.gemm to bf16", gpu.name);
}

TileLoop tile_loop(const Product& product, GemmTile tile, const GpuSpec& gpu,
                   const CalibrationSpec& calibration) {
  const ProductConstants& constants = calibration.product;
  TileLoop loop{.tensor = results(tile) * k_per_block(product) * 2 / tensor_rate(product, gpu)};
  if (is_fp8(product)) {
    // One warpgroup's turn: its products, the wait for their end, its promotion.
    double turn = loop.tensor / warpgroups(tile);
    if (promotes(product, gpu)) {
      turn += product.kind == ProductKind::kFp8 ? constants.drain_cycles.value
                                                : constants.gradient_drain_cycles.value;
      turn += results(tile) / warpgroups(tile) / kFp32LanesPerSm;
    }
    // Two warpgroups take turns at the tensor cores: neither rate is reached when they are close.
    double cycles = warpgroups(tile) > 1 ? std::hypot(loop.tensor, turn) : turn;
    if (promotes(product, gpu)) cycles *= unevenness(product, tile, constants);
    loop.promotion = cycles - loop.tensor;
  } else {
    // Named promotion for want of a better name: what instruction issue loses.
    loop.promotion = loop.tensor * (constants.issue_bf16.value - 1);
  }
  loop.from_l2 = (tile.m + tile.n) * kBlockBytes / gpu.l2_bytes_per_clock_per_sm;
  const std::int64_t turns = ceil_div(tile.m, kWarpgroupRows);
  loop.from_smem = static_cast<double>(turns * (kWarpgroupRows + tile.n)) * kBlockBytes /
                   gpu.shared_memory_bytes_per_clock_per_sm;
  loop.feed = std::max(0.0, std::max(loop.from_l2, loop.from_smem) - loop.cycles());
  return loop;
}

double included_cast_seconds(std::int64_t rows, std::int64_t columns, const GpuSpec& gpu,
                             const CalibrationSpec& calibration) {
  const ProductConstants& constants = calibration.product;
  require(constants.cast_blocks_per_us.value > 0,
          "the calibration of {} knows no cast: its tables time products alone; leave cast at 0",
          calibration.gpu);
  // Three bytes per element (BF16 in, FP8 out); 16 groups of 128 per thread block, or as many as
  // divide their number: odd row counts start many small blocks.
  constexpr std::int64_t kGroupsPerBlock = 16;
  const std::int64_t groups = rows * ceil_div(columns, std::int64_t{128});
  const double bytes = 3.0 * static_cast<double>(rows) * static_cast<double>(columns);
  const std::int64_t blocks = groups / std::gcd(groups, kGroupsPerBlock);
  return constants.cast_launch_us.value * 1e-6 +
         overlapped(bytes / product_streaming_rate(gpu, calibration),
                    static_cast<double>(blocks) / (constants.cast_blocks_per_us.value * 1e6));
}

double busy_seconds(const Product& product, const GpuSpec& gpu, const CalibrationSpec& calibration,
                    int sms) {
  return best_launch(product, gpu, calibration, sms).busy_seconds;
}

KernelCost product_cost(const Product& product, const GpuSpec& gpu,
                        const CalibrationSpec& calibration, int sms) {
  const Launch launch = best_launch(product, gpu, calibration, sms);
  const double launch_seconds = calibration.product.launch_us.value * 1e-6;
  const double cast_seconds =
      product.options.with_cast
          ? included_cast_seconds(product.extents.rows * product.extents.groups, product.extents.k,
                                  gpu, calibration)
          : 0;
  const double clock = launch.clock.count();
  const double loops = launch.waves * launch.blocks;
  KernelCost cost;
  const double seconds = launch_seconds + cast_seconds + launch.seconds;
  cost.time = duration_from_seconds(seconds);
  cost.cycles = seconds * clock;
  cost.clock = launch.clock;
  cost.flops = Flops(product.flops);
  cost.hbm_bytes = Bytes(static_cast<std::int64_t>(launch.hbm_bytes));
  cost.l2_bytes = Bytes(static_cast<std::int64_t>(launch.tiles * launch.blocks *
                                                  (launch.tile.m + launch.tile.n) * kBlockBytes));
  cost.limited_by = limit_of(launch, product, launch_seconds + cast_seconds, sms);
  cost.tiling = {.block_m = launch.tile.m,
                 .block_n = launch.tile.n,
                 .blocks = static_cast<std::int64_t>(launch.tiles),
                 .waves = static_cast<std::int64_t>(launch.waves)};
  cost.parts = {
      {{"launch", launch_seconds * clock},
       {"tensor", loops * launch.loop.tensor},
       {is_fp8(product) ? "promotion" : "issue", loops * launch.loop.promotion},
       {"feed", loops * launch.loop.feed + launch.stall},
       {"partial rows", launch.partial},
       {"epilogue", launch.epilogue},
       {"memory", (launch.seconds - launch.busy_seconds - launch.reduction_seconds) * clock},
       {is_fp8(product) ? "cast" : "sum of splits",
        (cast_seconds + launch.reduction_seconds) * clock}}};
  return cost;
}

}  // namespace pipecast
