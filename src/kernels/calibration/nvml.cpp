#include "kernels/calibration/nvml.hpp"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/calibration/statistics.hpp"

namespace pipecast::kernels {

namespace {

constexpr auto kInterval = std::chrono::milliseconds(2);
constexpr double kMegahertzOfGigahertz = 1e3;
constexpr double kMilliwattsOfWatt = 1e3;

std::optional<double> median(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return summary_of(values).median;
}

}  // namespace

// NVML's C interface as far as it is used here. Source: NVML API reference guide (vR570), "Device
// queries" and "System queries": nvmlReturn_t 0 is success, NVML_CLOCK_SM 1, NVML_TEMPERATURE_GPU
// 0; clocks are in MHz, power in mW, temperatures in degrees Celsius.
class GpuTelemetry::Library {
 public:
  explicit Library(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_NOW)) {
    if (handle_ == nullptr) {
      const char* const why = dlerror();
      reason = std::string("no NVML: ") + (why == nullptr ? name : why);
      return;
    }
    const bool found = find(init_, "nvmlInit_v2") && find(shutdown_, "nvmlShutdown") &&
                       find(by_bus_, "nvmlDeviceGetHandleByPciBusId_v2") &&
                       find(clock_, "nvmlDeviceGetClockInfo") &&
                       find(power_, "nvmlDeviceGetPowerUsage") &&
                       find(temperature_, "nvmlDeviceGetTemperature") &&
                       find(driver_, "nvmlSystemGetDriverVersion");
    if (!found) return;
    started_ = init_() == kSuccess;
    if (!started_) reason = "NVML does not start";
  }
  ~Library() {
    if (started_) shutdown_();
    if (handle_ != nullptr) dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  void choose(const std::string& pci_bus_id) {
    if (started_ && by_bus_(pci_bus_id.c_str(), &device_) != kSuccess) {
      reason = "NVML does not know the device at " + pci_bus_id;
    }
  }

  [[nodiscard]] std::string driver_version() const {
    std::array<char, 96> text{};  // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE is 80
    const bool told = started_ && driver_(text.data(), text.size()) == kSuccess;
    return told ? text.data() : "";
  }

  [[nodiscard]] std::optional<double> clock_ghz() const {
    unsigned value = 0;
    if (clock_(device_, kSmClock, &value) != kSuccess) return std::nullopt;
    return value / kMegahertzOfGigahertz;
  }
  [[nodiscard]] std::optional<double> power_w() const {
    unsigned value = 0;
    if (power_(device_, &value) != kSuccess) return std::nullopt;
    return value / kMilliwattsOfWatt;
  }
  [[nodiscard]] std::optional<double> temperature_c() const {
    unsigned value = 0;
    if (temperature_(device_, kGpuSensor, &value) != kSuccess) return std::nullopt;
    return value;
  }

  std::string reason;  ///< why nothing can be told

 private:
  using Device = void*;
  static constexpr int kSuccess = 0;
  static constexpr int kSmClock = 1;
  static constexpr int kGpuSensor = 0;

  template <class Function>
  bool find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    if (function == nullptr) reason = std::string("NVML has no ") + name;
    return function != nullptr;
  }

  void* handle_ = nullptr;
  bool started_ = false;
  Device device_ = nullptr;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*by_bus_)(const char*, Device*) = nullptr;
  int (*clock_)(Device, int, unsigned*) = nullptr;
  int (*power_)(Device, unsigned*) = nullptr;
  int (*temperature_)(Device, int, unsigned*) = nullptr;
  int (*driver_)(char*, unsigned) = nullptr;
};

/// The thread and what it has seen.
struct GpuTelemetry::Sampler {
  explicit Sampler(const Library& from) : library(from), thread([this] { run(); }) {}
  ~Sampler() { end(); }

  void end() {
    over = true;
    if (thread.joinable()) thread.join();
  }

  void run() {
    do {
      const auto keep = [](std::vector<double>& to, const std::optional<double>& value) {
        if (value) to.push_back(*value);
      };
      keep(clocks, library.clock_ghz());
      keep(powers, library.power_w());
      keep(temperatures, library.temperature_c());
      std::this_thread::sleep_for(kInterval);
    } while (!over);
  }

  const Library& library;
  std::atomic<bool> over{false};
  std::vector<double> clocks;
  std::vector<double> powers;
  std::vector<double> temperatures;
  std::thread thread;  // last: it uses all of the others
};

GpuTelemetry::GpuTelemetry(const std::string& pci_bus_id, const std::string& library)
    : library_(std::make_unique<Library>(library)) {
  library_->choose(pci_bus_id);
  reason_ = library_->reason;
  driver_ = library_->driver_version();
}

GpuTelemetry::~GpuTelemetry() = default;

void GpuTelemetry::start() {
  if (reason_.empty()) sampler_ = std::make_unique<Sampler>(*library_);
}

TelemetrySample GpuTelemetry::stop() {
  if (sampler_ == nullptr) return {};
  sampler_->end();
  TelemetrySample out{.clock_ghz = median(sampler_->clocks),
                      .power_w = median(sampler_->powers),
                      .temperature_c = median(sampler_->temperatures)};
  if (out.clock_ghz) out.clock_spread = summary_of(sampler_->clocks).spread;
  sampler_.reset();
  return out;
}

}  // namespace pipecast::kernels
