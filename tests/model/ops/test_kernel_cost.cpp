#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/ops/kernel_cost.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr std::int64_t kTile = 128;  // rows and columns of an output tile

/// A matrix product of BF16 or FP8 operands with BF16 results.
Operation product(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::int64_t element = op.find("fp8") == std::string_view::npos ? 2 : 1;
  return {.op = op,
          .label = "test",
          .m = m,
          .n = n,
          .k = k,
          .flops =
              Flops(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)),
          .read = Bytes((m * k + k * n) * element),
          .written = Bytes(m * n * 2)};
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
/// Their shape is one of their own; test_attention.cpp holds them to the same laws.
bool is_attention(std::string_view op) {
  return op == "attention_fwd" || op == "attention_bwd" || op == "attention_decode";
}
/// Kernels of the exchange have extents of their own: test_communication.cpp.
bool is_exchange(std::string_view op) { return op.substr(0, 3) == "ep_"; }

Duration time_of(const Operation& op, int sms, const GpuSpec& gpu = round_gpu()) {
  return kernel_cost(op, gpu, ideal_calibration(), sms).time;
}

/// Rates are products of several doubles: times that are equal in the reals may differ by the last
/// picosecond, which rounding up decides.
constexpr Duration kRounding = picoseconds(1);

}  // namespace

TEST_CASE("every kind of operation has a kernel", "[ops]") {
  std::vector<std::string> expected;
  for (const OperationKind& kind : operation_kinds()) expected.emplace_back(kind.name);
  REQUIRE(Registry<KernelKind>::instance().names() == expected);
}

TEST_CASE("an operation without a kernel is refused, naming the known ones", "[ops]") {
  REQUIRE_THROWS_WITH(time_of({.op = "ep_exchange"}, 100),
                      Catch::StartsWith("unknown name 'ep_exchange'; known: adamw, attention_bwd"));
}

TEST_CASE("no kernel is faster than its roofline", "[ops][property]") {
  const GpuSpec gpu = round_gpu();
  const int sms = GENERATE(1, 80, 100);
  const std::int64_t m = GENERATE(take(5, random(1, 20'000)));
  const std::int64_t k = GENERATE(take(5, random(1, 20'000)));
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    if (is_exchange(name) || is_attention(name)) continue;
    CAPTURE(name, sms, m, k);
    const Operation op = product(name, m, 1000, k);
    const KernelCost cost = kernel_cost(op, gpu, ideal_calibration(), sms);
    REQUIRE(cost.hbm_bytes == op.read + op.written);
    REQUIRE(cost.time >= cost.hbm_bytes / gpu.hbm_bandwidth);
    if (!is_product(name)) continue;
    const Precision precision = contains(name, "fp8") ? Precision::kFp8 : Precision::kBf16;
    REQUIRE(cost.time + kRounding >= op.flops / gpu.tensor_peak(precision, sms));
  }
}

TEST_CASE("kernels never get faster with a larger extent", "[ops][property]") {
  const std::int64_t m = GENERATE(128, take(6, random(1, 8'000)));
  const std::int64_t n = GENERATE(128, take(3, random(1, 8'000)));
  const std::int64_t k = GENERATE(take(3, random(1, 8'000)));
  const int sms = GENERATE(33, 100);
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    if (is_attention(name)) continue;
    CAPTURE(name, m, n, k, sms);
    const Duration base = time_of(product(name, m, n, k), sms);
    REQUIRE(time_of(product(name, m + 1, n, k), sms) + kRounding >= base);
    REQUIRE(time_of(product(name, m, n + 1, k), sms) + kRounding >= base);
    REQUIRE(time_of(product(name, m, n, k + 1), sms) + kRounding >= base);
  }
}

TEST_CASE("more bandwidth, a faster clock or more SMs never slow a kernel", "[ops][property]") {
  const std::int64_t m = GENERATE(take(10, random(1, 20'000)));
  const int sms = GENERATE(1, 20, 80, 99);
  const GpuSpec gpu = round_gpu();
  GpuSpec wider = gpu;
  wider.hbm_bandwidth = 2 * gpu.hbm_bandwidth;
  GpuSpec faster = gpu;
  faster.tensor_clock = 2 * gpu.tensor_clock;
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    if (is_attention(name)) continue;
    CAPTURE(name, m, sms);
    const Operation op = product(name, m, 1000, 777);
    const Duration base = time_of(op, sms, gpu);
    REQUIRE(time_of(op, sms, wider) <= base);
    REQUIRE(time_of(op, sms, faster) <= base);
    REQUIRE(time_of(op, sms + 1, gpu) <= base + kRounding);
  }
}

TEST_CASE("a product takes as many waves as its tiles need: one more at k * SMs + 1", "[ops]") {
  const int sms = GENERATE(1, 20, 100);
  const int waves = GENERATE(1, 2, 7);
  const std::int64_t k = 4096;
  GpuSpec gpu = round_gpu();
  gpu.hbm_bandwidth = Bandwidth(1e30);  // leaves the tensor cores as the only limit
  const auto time = [&](std::int64_t tiles) {
    return static_cast<double>(
        time_of(product("gemm_bf16", tiles * kTile, kTile, k), sms, gpu).count());
  };
  // One tile on one SM: 2 * 128 * 128 * k flop at 1000 flop per cycle of 1 ns.
  const double tile_ps = 2.0 * kTile * kTile * static_cast<double>(k) / 1000 * 1000;
  CAPTURE(sms, waves);
  REQUIRE(time(waves * sms) == Approx(waves * tile_ps).epsilon(1e-12));
  REQUIRE(time(waves * sms + 1) == Approx((waves + 1) * tile_ps).epsilon(1e-12));
}

TEST_CASE("a part of a tile takes as long as the whole", "[ops]") {
  const std::int64_t k = 4096;
  GpuSpec gpu = round_gpu();
  gpu.hbm_bandwidth = Bandwidth(1e30);
  const auto time = [&](std::int64_t m, std::int64_t groups) {
    Operation op = product("grouped_gemm_fp8", m, kTile, k);
    op.groups = groups;
    return static_cast<double>(time_of(op, 100, gpu).count());
  };
  REQUIRE(time(1, 1) == Approx(time(kTile, 1)).epsilon(1e-9));
  // 64 rows for each of 200 groups are 200 half tiles: two waves instead of one.
  REQUIRE(time(100 * kTile, 200) == Approx(2 * time(100 * kTile, 1)).epsilon(1e-9));
}

TEST_CASE("a kernel says what limits it", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.latency.kernel_us.value = 2;
  const auto cost = [&](const Operation& op) {
    return kernel_cost(op, round_gpu(), calibration, 100);
  };
  const KernelCost large = cost(product("gemm_bf16", 12'800, 12'800, 12'800));
  REQUIRE(name_of(large.limited_by) == "tensor");
  const KernelCost flat = cost(product("gemm_bf16", 12'800, 12'800, 1));
  REQUIRE(name_of(flat.limited_by) == "hbm");
  const KernelCost small = cost({.op = "elementwise", .read = Bytes(1)});
  REQUIRE(name_of(small.limited_by) == "latency");
  // A byte at 1 TB/s takes a picosecond.
  REQUIRE(small.time >= microseconds(2) + picoseconds(1));
  REQUIRE(small.time <= microseconds(2) + picoseconds(1) + kRounding);
}

TEST_CASE("an efficiency divides the time of the tensor kernels it belongs to", "[ops][property]") {
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    CAPTURE(name);
    if (!contains(name, "gemm")) continue;
    const Operation op = product(name, 100 * kTile, kTile, 8192);
    CalibrationSpec halved = ideal_calibration();
    auto& constant =
        const_cast<Constant&>(Registry<KernelKind>::instance().find(name).constant(halved));
    constant.value = 0.5;
    const Duration whole = time_of(op, 100);
    const Duration half = kernel_cost(op, round_gpu(), halved, 100).time;
    REQUIRE(static_cast<double>(half.count()) ==
            Approx(2 * static_cast<double>(whole.count())).epsilon(1e-9));
  }
}

TEST_CASE("FP8 products are refused where the tensor cores know no FP8", "[ops]") {
  GpuSpec a100 = round_gpu();
  a100.name = "a100";
  a100.fp8_flop_per_clock_per_sm = 0;
  const auto* const op = GENERATE("gemm_fp8", "grouped_gemm_fp8", "gemm_fp8_wgrad");
  REQUIRE_THROWS_WITH(time_of(product(op, 1, 1, 1), 100, a100),
                      "a100 has no fp8 tensor cores; set plan.precision.gemm to bf16");
  REQUIRE_NOTHROW(time_of(product("gemm_bf16", 1, 1, 1), 100, a100));
}

TEST_CASE("a product without extent is refused", "[ops]") {
  REQUIRE_THROWS_WITH(time_of(product("gemm_bf16", 0, 1, 2), 100),
                      "gemm_bf16 test: extents must be positive: m=0 n=1 k=2 groups=1");
  Operation op = product("gemm_bf16", 1, 1, 1);
  op.groups = 0;
  REQUIRE_THROWS_WITH(time_of(op, 100),
                      "gemm_bf16 test: extents must be positive: m=1 n=1 k=1 groups=0");
}
