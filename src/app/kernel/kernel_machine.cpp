#include "app/kernel/kernel_machine.hpp"

#include <algorithm>
#include <filesystem>

#include "app/config/load.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

constexpr std::string_view kDefaultCalibration = "h800";

bool is_path(const std::string& word) {
  return word.find('/') != std::string::npos || std::filesystem::path(word).has_extension();
}

GpuSpec gpu_of(const std::string& word) {
  if (is_path(word)) return load_gpu(word);
  const std::vector<std::string> known = shipped_names("gpus");
  if (std::find(known.begin(), known.end(), word) == known.end()) {
    const std::string close = nearest(word, known);
    throw Error(fmt::format(
        "--gpu: unknown {}{}; shipped: {}; or the path of a YAML file", config::in_quotes(word),
        close.empty() ? "" : fmt::format(", did you mean {}?", close), join(known)));
  }
  return load_gpu(config_directory() / "gpus" / (word + ".yaml"));
}

}  // namespace

KernelMachine kernel_machine(const std::string& gpu,
                             const std::optional<std::string>& calibration) {
  KernelMachine out;
  out.gpu = gpu_of(gpu);
  if (calibration) {
    out.calibration_file = *calibration;
    out.calibration = load_calibration(*calibration);
    return out;
  }
  const std::vector<std::string> known = shipped_names("calibration");
  const bool measured = std::find(known.begin(), known.end(), out.gpu.name) != known.end();
  const std::string name = measured ? out.gpu.name : std::string(kDefaultCalibration);
  out.calibration_file = fmt::format("configs/calibration/{}.yaml", name);
  out.calibration = load_calibration(config_directory() / "calibration" / (name + ".yaml"));
  return out;
}

FlopRate peak_rate(const Operation& operation, const GpuSpec& gpu, int sms) {
  const bool tensor =
      operation.precision == Precision::kFp8 || operation.precision == Precision::kBf16;
  if (tensor) return gpu.tensor_peak(operation.precision, sms);
  return FlopRate(gpu.fp32_vector_peak.count() * sms / gpu.sm_count);
}

Duration roofline_time(const KernelPrediction& prediction, const GpuSpec& gpu) {
  const Duration memory = prediction.cost.hbm_bytes / gpu.hbm_bandwidth;
  const FlopRate peak = peak_rate(prediction.operation, gpu, prediction.sms);
  if (prediction.cost.flops.count() <= 0 || peak.count() <= 0) return memory;
  return std::max(memory, prediction.cost.flops / peak);
}

KernelPrediction predict_kernel(const Operation& operation, const KernelMachine& machine,
                                std::optional<std::int64_t> sms) {
  const GpuSpec& gpu = machine.gpu;
  const std::int64_t wanted = sms.value_or(gpu.sm_count);
  require(wanted >= 1 && wanted <= gpu.sm_count, "sms: {} is not within 1 and the {} of a {}",
          wanted, gpu.sm_count, gpu.name);
  KernelPrediction out{.operation = operation, .sms = static_cast<int>(wanted)};

  // Far beyond any kernel, and far enough below what a Duration holds for any efficiency.
  constexpr double kLongest = 60;  // seconds at the vendor's peak
  const double peak = peak_rate(operation, gpu, out.sms).count();
  const double compute = peak > 0 ? operation.flops.count() / peak : 0;
  const double memory =
      static_cast<double>((operation.read + operation.written).count()) / gpu.hbm_bandwidth.count();
  require(std::max(compute, memory) <= kLongest,
          "{}: takes {:.3g} s at the peak of {} SMs; expected at most {:g} s", operation.op,
          std::max(compute, memory), out.sms, kLongest);

  out.cost = kernel_cost(operation, gpu, machine.calibration, out.sms);
  return out;
}

}  // namespace pipecast
