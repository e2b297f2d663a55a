/// Fits the constants of configs/calibration/<gpu>.yaml on the kernel-level measurements of traces/
/// and prints the file.
///
///   build/release/fit_calibration h800 > configs/calibration/h800.yaml
///
/// What is fitted on what is declared in src/app/calibration/studies.cpp. No step time, GPU hours
/// or MFU is read, and no calibration file.
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "app/calibration/tables.hpp"
#include "app/calibration/write.hpp"
#include "app/config/load.hpp"
#include "base/error.hpp"

int main(int count, char** values) {
  using namespace pipecast;
  const std::string gpu = count == 2 ? values[1] : "";
  if (gpu != "h800" && gpu != "h100") {
    fmt::print(stderr, "usage: fit_calibration h800|h100\n");
    return 2;
  }
  try {
    const auto configs = config_directory();
    const MeasuredCase measured{
        .cluster = load_cluster(configs / "clusters" / (gpu + "-2048.yaml")),
        .model = load_model(configs / "models" / "deepseek-v3.yaml"),
        .plan = load_plan(configs / "plans" / "deepseek-v3.yaml")};
    fmt::print("{}", calibration_yaml(fit_calibration(gpu, studies_of(measured, trace_directory())),
                                      "build/release/fit_calibration " + gpu));
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "fit_calibration: {}\n", error.what());
    return 2;
  }
}
