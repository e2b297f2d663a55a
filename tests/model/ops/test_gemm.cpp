#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "machines.hpp"
#include "model/operations/product_shapes.hpp"
#include "model/ops/clock.hpp"
#include "model/ops/gemm_model.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// Times that are equal in the reals may differ by the last picosecond, which rounding up decides.
constexpr Duration kRounding = picoseconds(1);

constexpr std::array<std::string_view, 6> kProducts = {"gemm_fp8",          "grouped_gemm_fp8",
                                                       "gemm_fp8_wgrad",    "gemm_bf16",
                                                       "grouped_gemm_bf16", "gemm_bf16_wgrad"};

bool is_fp8(std::string_view op) { return op.find("fp8") != std::string_view::npos; }
bool is_grouped(std::string_view op) { return op.find("grouped") != std::string_view::npos; }

Operation product(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k,
                  GemmTile tile = {}) {
  Operation out = product_operation(op, m, n, k, is_grouped(op) ? 4 : 1);
  out.product.block_m = tile.m;
  out.product.block_n = tile.n;
  return out;
}

/// Constants in round numbers, none of which is without effect but those of a single wave.
CalibrationSpec rough_calibration() {
  CalibrationSpec c = ideal_calibration();
  c.clock.loaded_ghz.value = 1.5;  // of the 2 GHz of hopper()
  c.clock.settling_us.value = 1000;
  c.product.drain_cycles.value = 200;
  c.product.gradient_drain_cycles.value = 800;
  c.product.uneven_columns.value = 0.25;
  c.product.epilogue_cycles_fp8.value = 16;
  c.product.epilogue_cycles_bf16.value = 12;
  c.product.issue_bf16.value = 1.25;
  c.product.partial_row_cycles.value = 2;
  c.product.hbm.value = 0.9;
  c.product.launch_us.value = 3;
  return c;
}

/// An H100 in round numbers.
GpuSpec hopper() {
  GpuSpec gpu = round_gpu();
  gpu.sm_count = 132;
  gpu.tensor_clock = Frequency(1.8e9);
  gpu.max_clock = Frequency(2e9);
  gpu.bf16_flop_per_clock_per_sm = 4096;
  gpu.fp8_flop_per_clock_per_sm = 8192;
  gpu.hbm_bandwidth = Bandwidth(3e12);
  gpu.l2_bytes_per_clock_per_sm = 64;
  gpu.shared_memory_bytes_per_clock_per_sm = 128;
  return gpu;
}

/// Memory so fast that SMs alone decide.
GpuSpec without_memory(GpuSpec gpu) {
  gpu.hbm_bandwidth = Bandwidth(1e30);
  return gpu;
}

KernelCost cost_of(const Operation& op, int sms = 132, const GpuSpec& gpu = hopper()) {
  return kernel_cost(op, gpu, rough_calibration(), sms);
}
Duration time_of(const Operation& op, int sms = 132, const GpuSpec& gpu = hopper()) {
  return cost_of(op, sms, gpu).time;
}

}  // namespace

TEST_CASE("no product is faster than its roofline at the highest clock", "[gemm][property]") {
  const GpuSpec gpu = hopper();
  const auto op_name = GENERATE(from_range(kProducts));
  const int sms = GENERATE(1, 80, 112, 132);
  const std::int64_t m = GENERATE(take(6, random(1, 20'000)));
  const std::int64_t n = GENERATE(take(3, random(1, 20'000)));
  const std::int64_t k = GENERATE(take(3, random(1, 20'000)));
  CAPTURE(op_name, sms, m, n, k);
  const Operation op = product(op_name, m, n, k);
  for (const CalibrationSpec& calibration : {ideal_calibration(), rough_calibration()}) {
    const KernelCost cost = kernel_cost(op, gpu, calibration, sms);
    const double per_clock =
        is_fp8(op_name) ? gpu.fp8_flop_per_clock_per_sm : gpu.bf16_flop_per_clock_per_sm;
    REQUIRE(cost.time >= op.flops / FlopRate(per_clock * sms * gpu.max_clock.count()));
    REQUIRE(cost.hbm_bytes >= op.read + op.written);
    REQUIRE(cost.time >= cost.hbm_bytes / gpu.hbm_bandwidth);
  }
}

TEST_CASE("with a fixed tile a product never gets faster with a whole tile more or an SM less",
          "[gemm][property]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const GemmTile tile = GENERATE(GemmTile{64, 128}, GemmTile{128, 112}, GemmTile{128, 128});
  const std::int64_t m = GENERATE(16'384, take(8, random(1, 40'000)));
  const std::int64_t n = GENERATE(7'168, take(3, random(1, 20'000)));
  const std::int64_t k = GENERATE(4'096, take(3, random(1, 20'000)));
  const int sms = GENERATE(2, 80, 132);
  CAPTURE(op_name, tile.m, tile.n, m, n, k, sms);
  const Operation op = product(op_name, m, n, k, tile);
  const Duration base = time_of(op, sms);
  const std::int64_t rows = op.groups * tile.m;
  REQUIRE(time_of(product(op_name, m + rows, n, k, tile), sms) + kRounding >= base);
  REQUIRE(time_of(product(op_name, m, n + tile.n, k, tile), sms) + kRounding >= base);
  REQUIRE(time_of(product(op_name, m, n, k + 128, tile), sms) + kRounding >= base);
  REQUIRE(time_of(op, sms - 1) + kRounding >= base);
}

TEST_CASE("every band of row blocks but the first reads B again where L2 cannot hold it",
          "[gemm][property]") {
  // B is larger than L2: a band of 16 row blocks never stays beside it.
  constexpr std::int64_t kExtent = 8'192;
  const std::int64_t blocks = GENERATE(range(1, 80));
  const auto bytes = [&](std::int64_t row_blocks) {
    const Operation op = product("gemm_fp8", row_blocks * 128, kExtent, kExtent, {128, 128});
    return cost_of(op).hbm_bytes - op.read - op.written;
  };
  REQUIRE(bytes(blocks) == (ceil_div(blocks, 16) - 1) * Bytes(kExtent * kExtent));
}

TEST_CASE("a kernel's choice has the fewest waves and of those the fullest last one",
          "[gemm][property]") {
  const Fp8Rows rows =
      GENERATE(Fp8Rows::kDense, Fp8Rows::kMasked, Fp8Rows::kContiguous, Fp8Rows::kGradient);
  const GemmTile largest = GENERATE(GemmTile{256, 192}, GemmTile{128, 160}, GemmTile{128, 128});
  const int sms = GENERATE(1, 78, 112, 132);
  const std::int64_t m = GENERATE(take(10, random(1, 10'000)));
  const std::int64_t n = GENERATE(take(5, random(1, 10'000)));
  const std::int64_t groups = GENERATE(1, 8);
  const ProductExtents extents{.rows = m, .n = n, .k = 1'024, .groups = groups};
  CAPTURE(static_cast<int>(rows), largest.m, largest.n, sms, m, n, groups);
  const auto rank = [&](GemmTile tile) {
    const std::int64_t waves = ceil_div(tile.count(extents), std::int64_t{sms});
    return std::pair(waves, waves * sms - tile.count(extents));  // idle in the last wave
  };
  const GemmTile chosen = fp8_tile(extents, rows, sms, largest);
  REQUIRE(chosen.m <= largest.m);
  REQUIRE(chosen.n <= largest.n);
  for (const int tile_m : {64, 128, 256}) {
    if (rows == Fp8Rows::kContiguous && tile_m != 128) continue;
    if (rows != Fp8Rows::kDense && tile_m == 256) continue;
    for (int tile_n = 16; tile_n <= 128; tile_n += 16) {
      if (tile_m > largest.m) continue;
      CAPTURE(tile_m, tile_n);
      REQUIRE(rank(chosen) <= rank({tile_m, tile_n}));
    }
  }
}

TEST_CASE("with the kernel's own choice, more rows may be faster: 2,561 after 2,560", "[gemm]") {
  // Measured on H100. Both take three waves, but 2,560 rows do so with narrower tiles too, of 112
  // columns, which keep more SMs busy in the last wave and cross the blocks of weight scales.
  const KernelCost even = cost_of(product("gemm_fp8", 2'560, 4'096, 7'168));
  const KernelCost odd = cost_of(product("gemm_fp8", 2'561, 4'096, 7'168));
  REQUIRE(even.tiling.block_n == 112);
  REQUIRE(odd.tiling.block_n == 128);
  REQUIRE(even.tiling.waves == odd.tiling.waves);
  REQUIRE(even.time > odd.time);
}

TEST_CASE("a product's time steps where a wave begins, and nowhere else", "[gemm]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const GemmTile tile = GENERATE(GemmTile{64, 64}, GemmTile{128, 128}, GemmTile{128, 112});
  const int sms = GENERATE(1, 20, 100);
  const std::int64_t waves = GENERATE(1, 2, 7);
  const GpuSpec gpu = without_memory(round_gpu());
  const std::int64_t groups = product(op_name, 1, 1, 1).groups;
  const auto ps = [&](std::int64_t tiles) {
    const Operation op = product(op_name, groups * tile.m, tiles * tile.n, 4'096, tile);
    return static_cast<double>(kernel_cost(op, gpu, ideal_calibration(), sms).time.count());
  };
  // Each group has a row block of tiles: the columns that fill the waves, and one more.
  const std::int64_t last = waves * sms / groups;
  const std::int64_t first = (waves - 1) * sms / groups + 1;
  CAPTURE(op_name, tile.m, tile.n, sms, waves);
  if (last < first) return;  // with one SM, a column block takes four waves
  if (op_name == "grouped_gemm_fp8" && tile.m < 128) return;  // two tiles per padded group
  const double one = ps(1) / static_cast<double>(ceil_div(groups, std::int64_t{sms}));
  REQUIRE(ps(first) == Approx(static_cast<double>(waves) * one).epsilon(1e-7));
  REQUIRE(ps(last) == ps(first));
  REQUIRE(ps(last + 1) >= Approx(static_cast<double>(waves + 1) * one).epsilon(1e-7));
}

TEST_CASE("more bandwidth never slows a product, nor does a higher clock", "[gemm][property]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const std::int64_t m = GENERATE(take(10, random(1, 20'000)));
  const std::int64_t n = GENERATE(take(4, random(1, 8'000)));
  const std::int64_t k = GENERATE(64, 512, 7'168);
  const int sms = GENERATE(20, 132);
  CAPTURE(op_name, m, n, k, sms);
  GpuSpec wider = hopper();
  wider.hbm_bandwidth = 1.25 * wider.hbm_bandwidth;
  GpuSpec faster = hopper();
  faster.max_clock = 1.25 * faster.max_clock;
  const Operation op = product(op_name, m, n, k);
  REQUIRE(time_of(op, sms, wider) <= time_of(op, sms) + kRounding);
  REQUIRE(time_of(op, sms, faster) <= time_of(op, sms) + kRounding);
}

TEST_CASE("a wider path from L2 or shared memory never slows a product", "[gemm][property]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const std::int64_t m = GENERATE(take(10, random(1, 20'000)));
  CAPTURE(op_name, m);
  GpuSpec narrow = hopper();
  narrow.l2_bytes_per_clock_per_sm = 16;
  narrow.shared_memory_bytes_per_clock_per_sm = 32;
  const Operation op = product(op_name, m, 4'096, 7'168);
  REQUIRE(time_of(op) <= time_of(op, 132, narrow));
}

TEST_CASE("a product that waits for L2 or shared memory says so", "[gemm]") {
  // 128 x 128 at 128 of K: 256 rows and columns of 128 bytes come from L2; the tensor cores of
  // each of two warpgroups read 64 rows of A and 128 columns of B from shared memory.
  const auto* const op_name = GENERATE("gemm_fp8", "gemm_bf16");
  const Operation op = product(op_name, 12'800, 12'800, 8'192, {128, 128});
  const double loops = 100.0 * 100 / 100 * 8'192 / (is_fp8(op_name) ? 128 : 64);  // 100 SMs
  CalibrationSpec calibration = ideal_calibration();
  GpuSpec gpu = round_gpu();
  gpu.l2_bytes_per_clock_per_sm = 1;
  const KernelCost l2 = kernel_cost(op, without_memory(gpu), calibration, 100);
  REQUIRE(name_of(l2.limited_by) == "l2");
  REQUIRE(l2.cycles == Approx(loops * 256 * 128).epsilon(1e-9));
  gpu = round_gpu();
  gpu.shared_memory_bytes_per_clock_per_sm = 1;
  const KernelCost smem = kernel_cost(op, without_memory(gpu), calibration, 100);
  REQUIRE(name_of(smem.limited_by) == "smem");
  REQUIRE(smem.cycles == Approx(loops * 2 * (64 + 128) * 128).epsilon(1e-9));
}

TEST_CASE("tensor cores make promotion needless by full sums and own scales together",
          "[gemm][property]") {
  const auto* const op_name = GENERATE("gemm_fp8", "grouped_gemm_fp8", "gemm_fp8_wgrad");
  const std::int64_t m = GENERATE(take(20, random(1, 10'000)));
  const std::int64_t k = GENERATE(128, 7'168);
  CAPTURE(op_name, m, k);
  const auto time = [&](bool promotion, bool accumulation, bool scaling) {
    Operation op = product(op_name, m, 4'096, k);
    op.product.promotion = promotion;
    op.product.full_accumulation = accumulation;
    op.product.native_scaling = scaling;
    return time_of(op);
  };
  const Duration base = time(true, false, false);
  REQUIRE(time(false, false, false) < base);
  REQUIRE(time(true, true, false) == base);
  REQUIRE(time(true, false, true) == base);
  REQUIRE(time(true, true, true) == time(false, false, false));
  // Hardware that does one of them leaves the other to be asked for.
  GpuSpec gpu = hopper();
  gpu.fp8_full_accumulation = true;
  Operation scaled = product(op_name, m, 4'096, k);
  REQUIRE(time_of(scaled, 132, gpu) == base);
  scaled.product.native_scaling = true;
  REQUIRE(time_of(scaled, 132, gpu) == time(false, false, false));
}

TEST_CASE("the cycles of one tile, by hand", "[gemm]") {
  // 128 x 128 results at 8,192 flop per cycle: 512 cycles of the tensor cores per 128 of K, half of
  // them for each warpgroup. Its turn: 256 for its products, the drain, 64 to add its 128 x 64 sums
  // on 128 lanes. With a drain of 64 cycles that is 384, and the two overlap to the hypotenuse of
  // 512 and 384: 640.
  constexpr double kBlocks = 8;
  constexpr double kTensor = 512;
  constexpr double kLoop = 640;
  constexpr double kEpilogue = 128 * 16;  // 16 cycles per 128 results
  constexpr double kLaunch = 3'000;       // us at 1 GHz
  CalibrationSpec calibration = ideal_calibration();
  calibration.product.drain_cycles.value = 64;
  calibration.product.epilogue_cycles_fp8.value = 16;
  calibration.product.launch_us.value = 3;
  GpuSpec gpu = without_memory(round_gpu());
  gpu.fp8_flop_per_clock_per_sm = 8'192;
  const Operation op = product("gemm_fp8", 128, 128, 1'024, {128, 128});
  const KernelCost cost = kernel_cost(op, gpu, calibration, 100);
  REQUIRE(cost.cycles == Approx(kLaunch + kBlocks * kLoop + kEpilogue).epsilon(1e-12));
  const auto part = [&](std::string_view name) {
    return std::find_if(cost.parts.begin(), cost.parts.end(),
                        [=](const KernelPart& p) { return p.name == name; })
        ->cycles;
  };
  REQUIRE(part("launch") == Approx(kLaunch));
  REQUIRE(part("tensor") == Approx(kBlocks * kTensor));
  REQUIRE(part("promotion") == Approx(kBlocks * (kLoop - kTensor)));
  REQUIRE(part("epilogue") == Approx(kEpilogue));
  REQUIRE(cost.tiling.blocks == 1);
  REQUIRE(cost.tiling.waves == 1);
  // A row less leaves one of 64 to be filled with zeros in each of the eight blocks of K.
  calibration.product.partial_row_cycles.value = 5;
  const KernelCost partial =
      kernel_cost(product("gemm_fp8", 127, 128, 1'024, {128, 128}), gpu, calibration, 100);
  REQUIRE(partial.cycles == Approx(cost.cycles + kBlocks * 5));
  // 64 rows are one warpgroup's, which nothing overlaps with.
  const KernelCost single =
      kernel_cost(product("gemm_fp8", 64, 128, 1'024, {64, 128}), gpu, calibration, 100);
  REQUIRE(single.cycles == Approx(kLaunch + kBlocks * (256 + 64 + 64) + kEpilogue / 2));
}

TEST_CASE("columns in odd multiples of 16 cost their share of loop and epilogue", "[gemm]") {
  CalibrationSpec calibration = rough_calibration();
  const GpuSpec gpu = without_memory(round_gpu());
  calibration.clock.loaded_ghz.value = 1;
  calibration.product.launch_us.value = 0;
  const int columns = GENERATE(96, 112, 128);
  const auto cycles = [&] {
    return kernel_cost(product("gemm_fp8", 128, columns, 4'096, {128, columns}), gpu, calibration,
                       100)
        .cycles;
  };
  const double uneven = cycles();
  calibration.product.uneven_columns.value = 0;
  // A quarter at 128 columns, growing with their square.
  const double surcharge = columns == 112 ? 0.25 * (112.0 / 128) * (112.0 / 128) : 0;
  REQUIRE(uneven == Approx(cycles() * (1 + surcharge)));
}

TEST_CASE("a launch of one full wave stalls by its measured constants", "[gemm]") {
  CalibrationSpec calibration = ideal_calibration();
  const GpuSpec gpu = without_memory(round_gpu());
  const auto cycles = [&](std::int64_t columns, GemmTile tile) {
    const std::int64_t n = columns * tile.n;
    return kernel_cost(product("gemm_fp8", 128, n, 1'024, tile), gpu, calibration, 100).cycles;
  };
  // 20,480 results: a factor. 24,576 and more: cycles per 128 of K, from 80 of 100 SMs on.
  const double factor = cycles(1, {128, 160});
  const double full = cycles(80, {128, 192});
  const double sparse = cycles(79, {128, 192});
  const double waves = cycles(101, {128, 192});
  calibration.product.one_wave_factor.value = 1.5;
  calibration.product.one_wave_cycles.value = 10'000;
  REQUIRE(cycles(1, {128, 160}) == Approx(1.5 * factor));
  REQUIRE(cycles(80, {128, 192}) == Approx(8 * 10'000));
  REQUIRE(full < 8 * 10'000);
  REQUIRE(cycles(79, {128, 192}) == sparse);
  REQUIRE(cycles(101, {128, 192}) == waves);
}

TEST_CASE("a product's parts add up to its cycles, and cycles are time by clock",
          "[gemm][property]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const std::int64_t m = GENERATE(1, 64, take(10, random(1, 20'000)));
  const std::int64_t n = GENERATE(take(3, random(1, 20'000)));
  const std::int64_t k = GENERATE(64, 40'000, take(3, random(1, 20'000)));
  const int sms = GENERATE(1, 132);
  CAPTURE(op_name, m, n, k, sms);
  const KernelCost cost = cost_of(product(op_name, m, n, k), sms);
  const double parts =
      std::accumulate(cost.parts.begin(), cost.parts.end(), 0.0,
                      [](double sum, const KernelPart& part) { return sum + part.cycles; });
  REQUIRE(parts == Approx(cost.cycles).epsilon(1e-9));
  for (const KernelPart& part : cost.parts) REQUIRE(part.cycles >= -1e-9 * cost.cycles);
  REQUIRE(cost.cycles == Approx(to_seconds(cost.time) * cost.clock.count()).epsilon(1e-6));
  REQUIRE(cost.clock <= hopper().max_clock);
  REQUIRE(cost.clock.count() >= rough_calibration().clock.loaded_ghz.value * 1e9);
}

TEST_CASE("the clock falls as tensor cores work more and longer, to that under load",
          "[gemm][clock]") {
  const GpuSpec gpu = hopper();
  const CalibrationSpec calibration = rough_calibration();
  const auto hz = [&](double use, double seconds) {
    return sustained_clock(gpu, calibration, use, seconds).count();
  };
  for (double use = 0; use < 1; use += 0.125) {
    for (double seconds = 1e-6; seconds < 10; seconds *= 4) {
      CAPTURE(use, seconds);
      REQUIRE(hz(use + 0.125, seconds) < hz(use, seconds));
      REQUIRE(hz(use + 0.125, 4 * seconds) <= hz(use + 0.125, seconds));
      REQUIRE(hz(use, seconds) >= 1.5e9);
    }
  }
  REQUIRE(hz(0, 1) == 2e9);
  REQUIRE(hz(1, 1) == Approx(1.5e9));
  REQUIRE(hz(1, 0) == 2e9);
  // After one settling time the clock has gone all but 1 / e of the way.
  REQUIRE(hz(1, 1e-3) == Approx(1.5e9 + 0.5e9 / std::exp(1)));
  REQUIRE(hz(0.5, 1) == Approx(1.75e9));
}

TEST_CASE("a loaded clock above the highest is the highest", "[gemm][clock]") {
  CalibrationSpec calibration = rough_calibration();
  calibration.clock.loaded_ghz.value = 3;
  REQUIRE(sustained_clock(hopper(), calibration, 1, 1) == hopper().max_clock);
}

TEST_CASE("a product timed with its cast takes exactly the cast more", "[gemm]") {
  CalibrationSpec calibration = rough_calibration();
  calibration.product.cast_launch_us.value = 2;
  calibration.product.cast_blocks_per_us.value = 1'000;
  const std::int64_t m = GENERATE(1, 63, 64, 4'096);
  const std::int64_t k = GENERATE(128, 7'168);
  CAPTURE(m, k);
  Operation op = product("gemm_fp8", m, 4'096, k);
  const Duration alone = kernel_cost(op, hopper(), calibration, 132).time;
  op.product.with_cast = true;
  const Duration together = kernel_cost(op, hopper(), calibration, 132).time;
  const double cast = included_cast_seconds(m, k, hopper(), calibration);
  const auto difference = static_cast<double>((together - alone).count());
  REQUIRE(difference == Approx(cast * kPicosecondsPerSecond).margin(2));
  // The launch; bytes in BF16 and FP8 overlap with thread blocks of up to 16 groups of 128.
  const double bytes = 3.0 * static_cast<double>(m * k) / (0.9 * 3e12);
  const std::int64_t groups = m * k / 128;
  const double blocks = static_cast<double>(groups / std::gcd(groups, std::int64_t{16})) / 1e9;
  REQUIRE(cast == Approx(2e-6 + std::cbrt(std::pow(bytes, 3) + std::pow(blocks, 3))));
  // Tables of products alone know no cast.
  calibration.gpu = "round";
  calibration.product.cast_blocks_per_us.value = 0;
  REQUIRE_THROWS_WITH(kernel_cost(op, hopper(), calibration, 132),
                      "the calibration of round knows no cast: its tables time products alone; "
                      "leave cast at 0");
}

TEST_CASE("groups that follow one another are padded to 128 rows", "[gemm]") {
  // 8 groups of 32 rows compute what 8 groups of 128 rows do, at the same clock.
  const std::int64_t n = GENERATE(512, 4'096, 7'168);
  const std::int64_t rows = GENERATE(1, 32, 100, 127);
  const GpuSpec gpu = without_memory(hopper());
  const auto cost = [&](std::int64_t m) {
    return cost_of(product_operation("grouped_gemm_fp8", 8 * m, n, 7'168, 8), 132, gpu);
  };
  CAPTURE(n, rows);
  REQUIRE(cost(rows).time == cost(128).time);
  REQUIRE(cost(rows).clock == cost(128).clock);
  REQUIRE(cost(129).time > cost(128).time);
}

TEST_CASE("BF16 products take the fastest of the offered tiles", "[gemm][property]") {
  const auto* const op_name = GENERATE("gemm_bf16", "grouped_gemm_bf16", "gemm_bf16_wgrad");
  const std::int64_t m = GENERATE(1, 64, take(8, random(1, 10'000)));
  const std::int64_t n = GENERATE(take(4, random(1, 10'000)));
  const std::int64_t k = GENERATE(64, 7'168, take(3, random(1, 40'000)));
  const int sms = GENERATE(20, 132);
  const Duration chosen = time_of(product(op_name, m, n, k), sms);
  for (const GemmTile tile : bf16_tiles()) {
    CAPTURE(op_name, m, n, k, sms, tile.m, tile.n);
    REQUIRE(chosen <= time_of(product(op_name, m, n, k, tile), sms));
  }
}

TEST_CASE("a BF16 product never gets faster with a larger extent or fewer SMs",
          "[gemm][property]") {
  // Unlike FP8 ones, which take the choice of their kernel however slow it is.
  const auto* const op_name = GENERATE("gemm_bf16", "gemm_bf16_wgrad", "gate_gemm_fwd");
  const std::int64_t m = GENERATE(128, take(8, random(1, 10'000)));
  const std::int64_t n = GENERATE(128, take(4, random(1, 10'000)));
  const std::int64_t k = GENERATE(128, take(4, random(1, 40'000)));
  const int sms = GENERATE(20, 132);
  CAPTURE(op_name, m, n, k, sms);
  const Duration base = time_of(product(op_name, m, n, k), sms);
  REQUIRE(time_of(product(op_name, m + 1, n, k), sms) + kRounding >= base);
  REQUIRE(time_of(product(op_name, m, n + 1, k), sms) + kRounding >= base);
  REQUIRE(time_of(product(op_name, m, n, k + 1), sms) + kRounding >= base);
  REQUIRE(time_of(product(op_name, m, n, k), sms - 1) + kRounding >= base);
}

TEST_CASE("a BF16 product too small for the SMs splits its depth", "[gemm]") {
  // One tile of 256 x 128 results at most would keep 131 SMs idle.
  const Operation op = product("gemm_bf16", 128, 128, 65'536);
  const KernelCost split = cost_of(op);
  REQUIRE(split.tiling.blocks >
          ceil_div(128, split.tiling.block_m) * ceil_div(128, split.tiling.block_n));
  REQUIRE(split.tiling.blocks <= 132);
  const KernelCost whole = cost_of(product("gemm_bf16", 128, 128, 65'536, {128, 128}));
  REQUIRE(split.time < whole.time);
}

TEST_CASE("tiles that no kernel has are refused", "[gemm]") {
  const auto [m, n] = GENERATE(table<int, int>(
      {{32, 64}, {96, 64}, {64, 8}, {64, 272}, {64, 24}, {256, 144}, {64, 0}, {0, 64}}));
  const auto* const op_name = GENERATE("gemm_fp8", "gemm_bf16");
  REQUIRE_THROWS_WITH(
      time_of(product(op_name, 128, 128, 128, {m, n})),
      fmt::format("no kernel has tiles of {} x {}: rows are 64, 128, 192 or 256, columns a "
                  "multiple of 16 up to 256, and together at most 32,768 results fit the registers",
                  m, n));
}

TEST_CASE("groups padded to 128 rows have no taller tiles", "[gemm]") {
  Operation op = product("grouped_gemm_fp8", 1'024, 1'024, 1'024, {256, 128});
  REQUIRE_THROWS_WITH(time_of(op),
                      "groups that follow one another are padded to 128 rows: no kernel has tiles "
                      "of 256 for them; see the option masked");
  op.product.masked = true;
  REQUIRE_NOTHROW(time_of(op));
}

TEST_CASE("products without extent are refused by name", "[gemm]") {
  const auto op_name = GENERATE(from_range(kProducts));
  const auto& kind = Registry<KernelKind>::instance().find(op_name);
  std::vector<std::int64_t> values(kind.options.size());
  values[0] = 5;
  values[1] = 6;
  values[3] = 1;
  REQUIRE_THROWS_WITH(kind.make(op_name, values),
                      fmt::format("{}: extents must be positive: m=5 n=6 k=0 groups=1", op_name));
}
