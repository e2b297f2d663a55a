#include <catch2/catch.hpp>

#include "kernels/calibration/gpu_device.hpp"
#include "kernels/calibration/nvml.hpp"
#include "kernels/simt/device_error.hpp"

namespace pipecast::kernels {

TEST_CASE("emulated kernels have no GPU and no time", "[timed_cases]") {
  const GpuInventory here = find_gpus();
  REQUIRE(here.devices.empty());
  REQUIRE(here.reason == "built without CUDA: no nvcc was found");
  const TimingOptions options{1, 1, false};
  REQUIRE_THROWS_WITH(use_gpu(0), "built without CUDA: no nvcc was found");
  REQUIRE_THROWS_AS(time_on_gpu([] {}, options), DeviceError);
  REQUIRE_THROWS_AS(time_peer_copy(0, 1, 16, options), DeviceError);
  REQUIRE_THROWS_AS(time_nccl_all_to_all({0, 1}, 16, options), DeviceError);
}

TEST_CASE("without NVML nothing is sampled, and the reason is told", "[timed_cases]") {
  GpuTelemetry telemetry("0000:00:00.0", "libnvidia-ml-that-is-not-there.so.1");
  REQUIRE_THAT(telemetry.reason(), Catch::StartsWith("no NVML: ") &&
                                       Catch::Contains("libnvidia-ml-that-is-not-there.so.1"));
  REQUIRE(telemetry.driver().empty());
  telemetry.start();
  const TelemetrySample sample = telemetry.stop();
  REQUIRE(!sample.clock_ghz);
  REQUIRE(!sample.power_w);
  REQUIRE(!sample.temperature_c);
  REQUIRE(telemetry.stop().clock_ghz == std::nullopt);  // stopped already
}

TEST_CASE("a library that is not NVML is told by what it lacks", "[timed_cases]") {
  const GpuTelemetry telemetry("0000:00:00.0", "libm.so.6");
  REQUIRE(telemetry.reason() == "NVML has no nvmlInit_v2");
}

}  // namespace pipecast::kernels
