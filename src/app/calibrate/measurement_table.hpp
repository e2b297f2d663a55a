/// The table of finished measurements beside a calibration: what a second start goes on from.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "app/calibrate/measurement_plan.hpp"

namespace pipecast {

/// What timing one thing gave.
struct Measurement {
  enum class Outcome : std::uint8_t {
    kTimed,
    kWrong,     ///< its result was not its reference's: not timed
    kNoKernel,  ///< there is none for it yet, or not for this shape
  };
  Outcome outcome = Outcome::kNoKernel;
  double value = 0;   ///< median, in the plan's unit
  double spread = 0;  ///< middle half of the repetitions over their median
  int repetitions = 0;
  double error = 0;                   ///< of the result against its reference
  double tolerance = 0;               ///< that the error must not exceed
  std::optional<double> clock_ghz{};  ///< while it ran, where NVML tells
  std::optional<double> power_w{};
  std::optional<double> temperature_c{};
  std::string note{};  ///< why there is no time
};

/// Writes a file so that no reader sees half of it.
using WriteFile = std::function<void(const std::filesystem::path&, const std::string&)>;

class MeasurementTable {
 public:
  /// Reads the table if it is there.
  /// @throws Error for a table of another device or driver, or one that cannot be read
  MeasurementTable(std::filesystem::path path, DeviceStamp device, WriteFile write);

  /// The measurement of the same key; nothing where none is finished.
  [[nodiscard]] const Measurement* find(const PlannedMeasurement& planned) const;

  /// Appends a timed measurement and writes the whole table.
  void add(const PlannedMeasurement& planned, const Measurement& measurement);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  DeviceStamp device_;
  WriteFile write_;
  std::map<std::string, Measurement, std::less<>> entries_;  // by key
  std::string text_;                                         // of the file
};

}  // namespace pipecast
