#include <catch2/catch.hpp>

#include "app/config/load.hpp"
#include "app/kernel/kernel_machine.hpp"
#include "base/error.hpp"
#include "model/machines.hpp"
#include "model/operations/product_shapes.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

KernelMachine round_machine() {
  return {.gpu = round_gpu(), .calibration = ideal_calibration(), .calibration_file = "ideal.yaml"};
}

Operation product(std::int64_t m, std::int64_t n, std::int64_t k) {
  return product_operation("gemm_bf16", m, n, k, 1);
}

}  // namespace

TEST_CASE("a shipped GPU comes with its own calibration", "[kernel]") {
  const std::string name = GENERATE("h800", "h100");
  const KernelMachine machine = kernel_machine(name, {});
  REQUIRE(machine.gpu.name == name);
  REQUIRE(machine.calibration_file == "configs/calibration/" + name + ".yaml");
  REQUIRE(machine.measured_on_this_gpu());
}

TEST_CASE("a GPU that was never measured takes the H800's constants, and that is told",
          "[kernel]") {
  const KernelMachine machine = kernel_machine("a100", {});
  REQUIRE(machine.gpu.name == "a100");
  REQUIRE(machine.calibration.gpu == "h800");
  REQUIRE_FALSE(machine.measured_on_this_gpu());
}

TEST_CASE("a GPU and a calibration may be files", "[kernel]") {
  const std::string configs = config_directory().string();
  const KernelMachine machine =
      kernel_machine(configs + "/gpus/h800.yaml", configs + "/calibration/h100.yaml");
  REQUIRE(machine.gpu.name == "h800");
  REQUIRE(machine.calibration.gpu == "h100");
  REQUIRE(machine.calibration_file == configs + "/calibration/h100.yaml");
}

TEST_CASE("GPUs that are not there are refused", "[kernel]") {
  REQUIRE_THROWS_WITH(kernel_machine("h80", {}),
                      "--gpu: unknown 'h80', did you mean h800?; shipped: a100, h100, h800; or the "
                      "path of a YAML file");
  REQUIRE_THROWS_WITH(kernel_machine("nowhere/gpu.yaml", {}),
                      Catch::StartsWith("nowhere/gpu.yaml"));
  REQUIRE_THROWS_WITH(kernel_machine("h800", "nowhere.yaml"), Catch::StartsWith("nowhere.yaml"));
}

TEST_CASE("a prediction uses from one to all SMs", "[kernel]") {
  const KernelMachine machine = round_machine();
  const Operation op = product(512, 512, 512);
  REQUIRE(predict_kernel(op, machine, {}).sms == machine.gpu.sm_count);
  REQUIRE(predict_kernel(op, machine, 1).sms == 1);
  REQUIRE(predict_kernel(op, machine, 100).sms == 100);
  const std::int64_t wrong = GENERATE(0, -1, 101, std::int64_t{1} << 40);
  REQUIRE_THROWS_WITH(predict_kernel(op, machine, wrong),
                      fmt::format("sms: {} is not within 1 and the 100 of a round", wrong));
}

TEST_CASE("no prediction is below its roofline, the slower of arithmetic and HBM",
          "[kernel][property]") {
  const KernelMachine machine = round_machine();
  const std::int64_t m = GENERATE(1, 128, 5000);
  const std::int64_t k = GENERATE(1, 64, 4096);
  const int sms = GENERATE(1, 100);
  const KernelPrediction p = predict_kernel(product(m, 1024, k), machine, sms);
  const Duration best = roofline_time(p, machine.gpu);
  CAPTURE(m, k, sms);
  REQUIRE(p.cost.time + picoseconds(1) >= best);
  const double arithmetic = 2.0 * static_cast<double>(m) * 1024 * static_cast<double>(k) /
                            (1000.0 * 1e9 * sms);  // 1,000 flop a clock of 1 GHz on every SM
  const double memory = static_cast<double>(p.cost.hbm_bytes.count()) / 1e12;
  REQUIRE(to_seconds(best) == Approx(std::max(arithmetic, memory)).margin(2e-12));
}

TEST_CASE("operations without tensor cores are held against the CUDA cores", "[kernel]") {
  GpuSpec gpu = round_gpu();
  gpu.fp32_vector_peak = FlopRate(50e12);
  REQUIRE(peak_rate({.op = "elementwise", .precision = Precision::kFp32}, gpu, 50).count() ==
          25e12);
  REQUIRE(peak_rate({.op = "gemm_fp8", .precision = Precision::kFp8}, gpu, 50).count() == 100e12);
}

TEST_CASE("what would take minutes is refused", "[kernel]") {
  const KernelMachine machine = round_machine();
  // 2^57 flop at 1e12 a second on one SM.
  REQUIRE_THROWS_WITH(predict_kernel(product(1 << 19, 1 << 19, 1 << 18), machine, 1),
                      "gemm_bf16: takes 1.44e+05 s at the peak of 1 SMs; expected at most 60 s");
}
