#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/operations/product_shapes.hpp"
#include "model/ops/kernel_cost.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// An operation of these extents: a matrix product or attention of BF16 or FP8 operands, or the
/// memory traffic of one.
Operation operation(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k) {
  const bool gemm = op.find("gemm") != std::string_view::npos;
  Operation out = product_operation(gemm ? op : "gemm_bf16", m, n, k, 1);
  out.op = op;
  out.label = "test";
  return out;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
bool is_product(std::string_view op) { return contains(op, "gemm"); }
/// FP8 products take the tile of fewest waves, which need not be the fastest: test_gemm.cpp.
bool chooses_tiles(std::string_view op) { return is_product(op) && contains(op, "fp8"); }
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
    const Operation op = operation(name, m, 1000, k);
    const KernelCost cost = kernel_cost(op, gpu, ideal_calibration(), sms);
    // Products read some operands again, and padding; pointwise kernels find one in L2.
    const Bytes found = name == "elementwise" ? gpu.l2_capacity : Bytes();
    REQUIRE(cost.hbm_bytes + found >= op.read + op.written);
    if (!is_product(name)) REQUIRE(cost.hbm_bytes <= op.read + op.written);
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
    if (is_attention(name) || chooses_tiles(name)) continue;
    CAPTURE(name, m, n, k, sms);
    const Duration base = time_of(operation(name, m, n, k), sms);
    REQUIRE(time_of(operation(name, m + 1, n, k), sms) + kRounding >= base);
    REQUIRE(time_of(operation(name, m, n + 1, k), sms) + kRounding >= base);
    REQUIRE(time_of(operation(name, m, n, k + 1), sms) + kRounding >= base);
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
  faster.max_clock = 2 * gpu.max_clock;
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    if (is_attention(name)) continue;
    CAPTURE(name, m, sms);
    const Operation op = operation(name, m, 1000, 777);
    const Duration base = time_of(op, sms, gpu);
    REQUIRE(time_of(op, sms, wider) <= base);
    REQUIRE(time_of(op, sms, faster) <= base);
    if (chooses_tiles(name)) continue;
    REQUIRE(time_of(op, sms + 1, gpu) <= base + kRounding);
  }
}

TEST_CASE("a kernel says what limits it", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.latency.kernel_us.value = 2;
  const auto cost = [&](const Operation& op) {
    return kernel_cost(op, round_gpu(), calibration, 100);
  };
  const KernelCost large = cost(operation("gemm_bf16", 12'800, 12'800, 12'800));
  REQUIRE(name_of(large.limited_by) == "tensor");
  const KernelCost flat = cost(operation("gemm_bf16", 12'800, 12'800, 1));
  REQUIRE(name_of(flat.limited_by) == "hbm");
  const KernelCost small = cost({.op = "elementwise", .read = Bytes(1)});
  REQUIRE(name_of(small.limited_by) == "latency");
  // A byte at 1 TB/s takes a picosecond.
  REQUIRE(small.time >= microseconds(2) + picoseconds(1));
  REQUIRE(small.time <= microseconds(2) + picoseconds(1) + kRounding);
}

TEST_CASE("a product takes longer with more of the constant that decides its time", "[ops]") {
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    if (!is_product(name)) continue;
    CAPTURE(name);
    const Operation op = operation(name, 12'800, 128, 8'192);
    CalibrationSpec slower = ideal_calibration();
    const auto& constant = Registry<KernelKind>::instance().find(name).constant(slower);
    const_cast<Constant&>(constant).value += 1;
    REQUIRE(kernel_cost(op, round_gpu(), slower, 100).time > time_of(op, 100));
  }
}

TEST_CASE("FP8 products are refused where the tensor cores know no FP8", "[ops]") {
  GpuSpec a100 = round_gpu();
  a100.name = "a100";
  a100.fp8_flop_per_clock_per_sm = 0;
  const auto* const op = GENERATE("gemm_fp8", "grouped_gemm_fp8", "gemm_fp8_wgrad");
  REQUIRE_THROWS_WITH(time_of(operation(op, 1, 1, 1), 100, a100),
                      "a100 has no fp8 tensor cores; set plan.precision.gemm to bf16");
  REQUIRE_NOTHROW(time_of(operation("gemm_bf16", 1, 1, 1), 100, a100));
}

TEST_CASE("a product without extent is refused", "[ops]") {
  REQUIRE_THROWS_WITH(time_of(operation("gemm_bf16", 0, 1, 2), 100),
                      "gemm_bf16 test: extents must be positive: m=0 n=1 k=2 groups=1");
  Operation op = operation("gemm_bf16", 1, 1, 1);
  op.groups = 0;
  REQUIRE_THROWS_WITH(time_of(op, 100),
                      "gemm_bf16 test: extents must be positive: m=1 n=1 k=1 groups=0");
}
