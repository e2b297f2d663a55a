/// Clock, power and temperature of a GPU while kernels run: NVML, opened at run time, so that the
/// program neither needs it to build nor to start.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace pipecast::kernels {

/// Medians over the samples of a stretch of time; nothing where NVML does not tell.
struct TelemetrySample {
  std::optional<double> clock_ghz{};
  std::optional<double> clock_spread{};  ///< middle half of the samples over their median
  std::optional<double> power_w{};
  std::optional<double> temperature_c{};
};

class GpuTelemetry {
 public:
  /// @param library     of NVML; another name only in tests
  /// @param pci_bus_id  of the device
  explicit GpuTelemetry(const std::string& pci_bus_id,
                        const std::string& library = "libnvidia-ml.so.1");
  ~GpuTelemetry();
  GpuTelemetry(const GpuTelemetry&) = delete;
  GpuTelemetry& operator=(const GpuTelemetry&) = delete;

  /// Why nothing can be told; empty where it can.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  /// Version of the driver: "570.124.06"; empty where NVML does not tell.
  [[nodiscard]] const std::string& driver() const { return driver_; }

  /// Begins to sample in a thread of its own.
  void start();
  /// Ends it. Nothing is told without NVML.
  TelemetrySample stop();

 private:
  class Library;
  struct Sampler;
  std::string reason_;
  std::string driver_;
  std::unique_ptr<Library> library_;
  std::unique_ptr<Sampler> sampler_;
};

}  // namespace pipecast::kernels
