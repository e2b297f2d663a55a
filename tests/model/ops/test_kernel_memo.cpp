#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/ops/kernel_memo.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const GpuSpec kGpu = round_gpu();
const CalibrationSpec kCalibration = ideal_calibration();

Operation product(std::string_view op, std::int64_t m) {
  return {.op = op,
          .m = m,
          .n = 512,
          .k = 256,
          .flops = Flops(2.0 * static_cast<double>(m) * 512 * 256),
          .read = Bytes(m * 256),
          .written = Bytes(m * 512)};
}

/// An operation of any kind: all extents `extent` where they define its shape.
Operation operation_of(std::string_view op, std::int64_t extent) {
  const KernelKind& kind = Registry<KernelKind>::instance().find(op);
  if (kind.make == nullptr) return product(op, extent);
  std::vector<std::int64_t> values;
  for (const KernelOption& option : kind.options) {
    values.push_back(option.names.empty() ? option.fallback.value_or(extent)
                                          : option.names.front().value);
  }
  return kind.make(op, values);
}

}  // namespace

TEST_CASE("a remembered cost is the computed one", "[ops][memo][property]") {
  KernelMemo memo(kGpu, kCalibration);
  for (int round = 0; round < 2; ++round) {
    for (const std::string& name : Registry<KernelKind>::instance().names()) {
      for (const int sms : {1, 64, 100}) {
        CAPTURE(name, sms, round);
        const Operation op = operation_of(name, 128);
        const KernelCost& remembered = memo.cost(op, sms);
        const KernelCost computed = kernel_cost(op, kGpu, kCalibration, sms);
        REQUIRE(remembered.time == computed.time);
        REQUIRE(remembered.cycles == computed.cycles);
        REQUIRE(remembered.limited_by == computed.limited_by);
      }
    }
  }
  REQUIRE(memo.size() == 3 * Registry<KernelKind>::instance().names().size());
}

TEST_CASE("everything that changes a kernel tells it apart, label and stream do not",
          "[ops][memo]") {
  KernelMemo memo(kGpu, kCalibration);
  const Operation base = product("gemm_bf16", 1000);
  std::vector<Operation> others(10, base);
  others[0].op = "gemm_bf16_wgrad";
  others[1].precision = Precision::kFp32;
  others[2].m = 1001;
  others[3].n = 513;
  others[4].k = 257;
  others[5].groups = 2;
  others[6].read = Bytes(1);
  others[7].written = Bytes(1);
  others[8].flops = Flops(1);
  others[9].attention.causal = true;
  memo.cost(base, 100);
  std::size_t expected = 1;
  for (const Operation& other : others) {
    memo.cost(other, 100);
    REQUIRE(memo.size() == ++expected);
  }
  memo.cost(base, 99);
  REQUIRE(memo.size() == ++expected);
  Operation same = base;
  same.label = "q_b";
  same.stream = Stream::kSide;
  REQUIRE(&memo.cost(same, 100) == &memo.cost(base, 100));
  REQUIRE(memo.size() == expected);
}

TEST_CASE("a memo keeps no name that its caller may free", "[ops][memo]") {
  KernelMemo memo(kGpu, kCalibration);
  std::string name = "gemm_bf16";
  const Duration bf16 = memo.cost(product(name, 1000), 100).time;
  name = "rmsnorm_f";  // the same memory, as long a name, and no kernel
  REQUIRE_THROWS_WITH(memo.cost(product(name, 1000), 100),
                      Catch::StartsWith("unknown name 'rmsnorm_f'"));
  REQUIRE(memo.size() == 1);
  REQUIRE(memo.cost(product("gemm_bf16", 1000), 100).time == bf16);
  REQUIRE(memo.size() == 1);
}

TEST_CASE("cycles are the time at the clock, and the parts add up to them", "[ops][property]") {
  const std::int64_t extent = GENERATE(64, 100, 1024);
  const int sms = GENERATE(1, 100);
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    CAPTURE(name, extent, sms);
    const KernelCost cost = kernel_cost(operation_of(name, extent), kGpu, kCalibration, sms);
    double sum = 0;
    for (const KernelPart& part : cost.parts) sum += part.cycles;
    REQUIRE(cost.clock.count() > 0);
    REQUIRE(sum == Approx(cost.cycles).epsilon(1e-9));
    REQUIRE(cost.cycles / cost.clock.count() ==
            Approx(to_seconds(cost.time)).epsilon(1e-6).margin(2e-12));
  }
}
