#include "app/calibrate/measurement_table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/tables/csv.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

constexpr std::string_view kHeader =
    "name,shape,sms,gpus,unit,value,spread,repetitions,error,tolerance,clock_ghz,power_w,"
    "temperature_c,device,driver,date\n";

std::string optional_cell(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : std::string();
}

std::optional<double> optional_number(const CsvTable& table, std::size_t row,
                                      std::string_view column) {
  if (table.text(row, column).empty()) return std::nullopt;
  return table.number(row, column);
}

/// What a table without quotes can hold.
std::string cell(std::string text) {
  std::replace(text.begin(), text.end(), ',', ';');
  return text;
}

Measurement measurement_of(const CsvTable& table, std::size_t row) {
  const double value = table.number(row, "value");
  require(value > 0, "{}: value: {} is no measurement; expected more than 0",
          table.place(row, "value"), value);
  return {.outcome = Measurement::Outcome::kTimed,
          .value = value,
          .spread = table.number(row, "spread"),
          .repetitions = static_cast<int>(table.number(row, "repetitions")),
          .error = table.number(row, "error"),
          .tolerance = table.number(row, "tolerance"),
          .clock_ghz = optional_number(table, row, "clock_ghz"),
          .power_w = optional_number(table, row, "power_w"),
          .temperature_c = optional_number(table, row, "temperature_c")};
}

std::string line_of(const PlannedMeasurement& planned, const Measurement& m,
                    const DeviceStamp& device) {
  return fmt::format("{},{},{},{},{},{:.8g},{:.4g},{},{:.4g},{:.4g},{},{},{},{},{},{}\n",
                     planned.name, planned.shape, planned.sms, planned.gpus, planned.unit, m.value,
                     m.spread, m.repetitions, m.error, m.tolerance, optional_cell(m.clock_ghz),
                     optional_cell(m.power_w), optional_cell(m.temperature_c), cell(device.name),
                     cell(device.driver), device.date);
}

std::string line_of(const CsvTable& table, std::size_t row) {
  std::string out;
  for (const std::string& column : table.header()) {
    out += (out.empty() ? "" : ",") + table.text(row, column);
  }
  return out + "\n";
}

std::string key_of(const CsvTable& table, std::size_t row) {
  PlannedMeasurement planned;
  planned.name = table.text(row, "name");
  planned.shape = table.text(row, "shape");
  planned.sms = static_cast<int>(table.number(row, "sms"));
  return planned.key();
}

}  // namespace

MeasurementTable::MeasurementTable(std::filesystem::path path, DeviceStamp device, WriteFile write)
    : path_(std::move(path)), device_(std::move(device)), write_(std::move(write)), text_(kHeader) {
  if (!std::filesystem::exists(path_)) return;
  const CsvTable table(path_);
  for (std::size_t row = 0; row < table.rows(); ++row) {
    for (const auto& [column, here] :
         {std::pair{"device", cell(device_.name)}, std::pair{"driver", cell(device_.driver)}}) {
      const std::string& there = table.text(row, column);
      require(there == here,
              "{}: measured with {} '{}', this is '{}'; expected to go on where it was begun: "
              "choose another file with -o, or begin anew with --fresh",
              table.place(row, column), column, there, here);
    }
    entries_[key_of(table, row)] = measurement_of(table, row);
    text_ += line_of(table, row);
  }
}

const Measurement* MeasurementTable::find(const PlannedMeasurement& planned) const {
  const auto found = entries_.find(planned.key());
  return found == entries_.end() ? nullptr : &found->second;
}

void MeasurementTable::add(const PlannedMeasurement& planned, const Measurement& measurement) {
  PIPECAST_ASSERT(measurement.outcome == Measurement::Outcome::kTimed);
  entries_[planned.key()] = measurement;
  text_ += line_of(planned, measurement, device_);
  write_(path_, text_);
}

}  // namespace pipecast
