/// A GPU that obeys the model exactly, with constants of its own: what a fit has to find.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "app/calibrate/session.hpp"
#include "app/config/load.hpp"
#include "base/random.hpp"
#include "program/program.hpp"
#include "scenarios.hpp"

namespace pipecast::testing {

inline const DeviceStamp kFakeStamp{
    .name = "NVIDIA H100 80GB HBM3", .driver = "570.124.06", .date = "2026-11-22"};

inline KernelMachine h100() { return kernel_machine("h100", std::nullopt); }

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

/// Times of its constants, each off by a normal deviate.
struct FakeDevice {
  CalibrationSpec truth{};
  double noise = 0;  ///< standard deviation, as a share
  std::vector<std::string> measured{};

  Measurement measure(const PlannedMeasurement& planned) {
    measured.push_back(planned.key());
    Random random(measured.size(), "noise of a made-up device");
    return {.outcome = Measurement::Outcome::kTimed,
            .value = planned.predict(truth) * (1 + noise * random.normal()),
            .spread = 0.01,
            .repetitions = 31,
            .clock_ghz = 1.7};
  }
};

inline CalibrationSession session_with(FakeDevice& device) {
  return {.measure = [&](const PlannedMeasurement& planned) { return device.measure(planned); },
          .elapsed_s = [] { return 0.0; }};
}

}  // namespace pipecast::testing
