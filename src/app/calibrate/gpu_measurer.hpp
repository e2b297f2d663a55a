/// Measures on a GPU of this machine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/calibrate/measurement_table.hpp"
#include "kernels/calibration/gpu_device.hpp"
#include "kernels/calibration/nvml.hpp"

namespace pipecast {

class GpuMeasurer {
 public:
  /// @param devices  indices among those of kernels::find_gpus(); kernels run on the first
  GpuMeasurer(const kernels::GpuInventory& machine, std::vector<int> devices);

  /// Name, driver and today's date.
  [[nodiscard]] const DeviceStamp& device() const { return device_; }
  /// Why neither clock nor power are sampled; empty where they are.
  [[nodiscard]] const std::string& no_telemetry() const { return telemetry_.reason(); }

  /// The kernel's result is checked first; a wrong one is not timed.
  Measurement measure(const PlannedMeasurement& planned);

 private:
  Measurement measure_kernel(const PlannedMeasurement& planned);
  Measurement measure_clock();
  Measurement measure_links(const PlannedMeasurement& planned);
  Measurement measure_exchange(const PlannedMeasurement& planned);

  std::vector<int> devices_;
  kernels::GpuTelemetry telemetry_;
  DeviceStamp device_;
};

/// Whether any kernel of this build is registered for the name.
bool has_kernel(const PlannedMeasurement& planned);

}  // namespace pipecast
