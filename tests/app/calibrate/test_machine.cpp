#include <catch2/catch.hpp>

#include "app/calibrate/machine.hpp"
#include "base/error.hpp"

using namespace pipecast;
using Catch::Contains;

namespace {

std::vector<GpuSpec> known() {
  GpuSpec h100;
  h100.name = "h100";
  h100.sm_count = 132;
  GpuSpec h800 = h100;
  h800.name = "h800";
  return {h100, h800};
}

}  // namespace

TEST_CASE("a device is the GPU whose name is a word of its own, with as many SMs", "[calibrate]") {
  const std::vector<GpuSpec> gpus = known();
  REQUIRE(described_gpu("NVIDIA H100 80GB HBM3", 132, gpus).name == "h100");
  REQUIRE(described_gpu("NVIDIA H800", 132, gpus).name == "h800");
  REQUIRE_THROWS_WITH(described_gpu("NVIDIA H100 PCIe", 114, gpus),
                      "no shipped GPU describes 'NVIDIA H100 PCIe' with 114 SMs; there are: h100 "
                      "(132 SMs), h800 (132 SMs); describe it in a YAML file and give that with "
                      "--gpu");
  REQUIRE_THROWS_WITH(described_gpu("NVIDIA H1000", 132, gpus), Contains("no shipped GPU"));
}

TEST_CASE("a device names its file", "[calibrate]") {
  REQUIRE(file_name_of("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3");
  REQUIRE(file_name_of("NVIDIA A100-SXM4-80GB") == "nvidia-a100-sxm4-80gb");
  REQUIRE(file_name_of(" ../odd/(name) ") == "odd-name");
}

TEST_CASE("a time limit has a unit", "[calibrate]") {
  REQUIRE(parse_time_limit("90s") == 90);
  REQUIRE(parse_time_limit("10min") == 10 * 60);
  REQUIRE(parse_time_limit("1.5 h") == 1.5 * 3600);
  for (const char* wrong : {"", "10", "min", "-1s", "ten min", "1e999s", "5m"}) {
    CAPTURE(wrong);
    REQUIRE_THROWS_WITH(parse_time_limit(wrong), Contains("expected such as 90s, 10min or 2h"));
  }
}

TEST_CASE("devices are a number of the first, a list or all", "[calibrate]") {
  REQUIRE(parse_devices("1", 8) == std::vector<int>{0});
  REQUIRE(parse_devices("3", 8) == std::vector<int>{0, 1, 2});
  REQUIRE(parse_devices("all", 2) == std::vector<int>{0, 1});
  REQUIRE(parse_devices("2,0", 3) == std::vector<int>{2, 0});
  REQUIRE_THROWS_WITH(parse_devices("9", 8), "--gpus: 9 of 8 GPUs; expected 1 to 8");
  REQUIRE_THROWS_WITH(parse_devices("0", 8), "--gpus: 0 of 8 GPUs; expected 1 to 8");
  REQUIRE_THROWS_WITH(parse_devices("0,8", 8), "--gpus: there is no GPU 8; there are 8, from 0 on");
  REQUIRE_THROWS_WITH(parse_devices("1,1", 8), "--gpus: 1 stands there twice");
  REQUIRE_THROWS_WITH(parse_devices("two", 8),
                      "--gpus: 'two' is neither a number, a list such as 0,2 nor all");
}
