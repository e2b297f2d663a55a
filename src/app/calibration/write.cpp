#include "app/calibration/write.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "app/forecast/assumptions.hpp"

namespace pipecast {

namespace {

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// A text between YAML's double quotes.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

/// What a file need not say of a constant of public tables.
std::string evidence(const Constant& constant) {
  std::string out;
  if (constant.kind != Evidence::kPublic) out += fmt::format("kind: {}, ", name_of(constant.kind));
  if (constant.spread > 0) out += fmt::format("spread: {:.2g}, ", constant.spread);
  return out;
}

std::string device_yaml(const DeviceStamp& device) {
  return fmt::format("device: {{ name: {}, driver: {}, date: {} }}\n", quoted(device.name),
                     quoted(device.driver), quoted(device.date));
}

std::string kernels_yaml(const std::vector<KernelEvidence>& kernels) {
  if (kernels.empty()) return {};
  std::string out = "kernels:  # whose times these constants rest on; others were never timed\n";
  for (const KernelEvidence& kernel : kernels) {
    out += fmt::format("  - {{ operation: {}, kind: {}, rows: {},\n      source: {} }}\n",
                       kernel.operation, name_of(kernel.kind), kernel.rows, quoted(kernel.source));
  }
  return out;
}

std::string comment(const StudyResult& study) {
  std::string out = fmt::format("{} rows of {} shape{}, median error {}, p90 {}", study.rows,
                                study.groups, study.groups == 1 ? "" : "s",
                                percent(study.fitted.median), percent(study.fitted.p90));
  if (study.left_out) {
    out += fmt::format("; left out: {}, {}", percent(study.left_out->median),
                       percent(study.left_out->p90));
  }
  if (!study.converged) out += "; the search did not end";
  return out;
}

}  // namespace

std::string calibration_yaml(FittedCalibration fitted, const std::string& command) {
  const bool measured = !fitted.calibration.device.name.empty();
  std::string out = fmt::format(
      "# yaml-language-server: $schema=../schemas/calibration.json\n"
      "# Written by `{}`: constants fitted on kernel-level measurements alone,\n"
      "# by robust least squares on the logarithms of predicted over measured. Errors are of the\n"
      "# study's rows: as fitted, and of shapes left out of the fit. low and high: the wider of "
      "two\n"
      "# standard errors and of the quartiles over shapes of the value that each asks for.\n"
      "{}"
      "gpu: {}\n",
      command,
      measured ? "# spread: middle half of the repetitions over their median.\n"
               : "# An H800's SMs, clocks and HBM are an H100's.\n",
      fitted.calibration.gpu);
  if (measured) out += device_yaml(fitted.calibration.device);
  std::map<std::string, std::string> entries;  // by name, so that sections stand together
  for (const NamedConstant& named : constants_of(fitted.calibration)) {
    const auto study =
        std::find_if(fitted.studies.begin(), fitted.studies.end(), [&](const StudyResult& result) {
          return std::find(result.constants.begin(), result.constants.end(), named.name) !=
                 result.constants.end();
        });
    const Constant& c = *named.constant;
    const std::string origin =
        study == fitted.studies.end() ? "stated, not fitted here" : comment(*study);
    entries[named.name] = fmt::format(
        "  # {}\n    {{ {}value: {:.4g}, low: {:.4g}, high: {:.4g},\n      source: {} }}\n", origin,
        evidence(c), c.value, c.low, c.high, quoted(c.source));
  }
  std::string section;
  for (const auto& [name, text] : entries) {
    const std::size_t dot = name.find('.');
    if (name.substr(0, dot) != section) out += fmt::format("{}:\n", section = name.substr(0, dot));
    out += fmt::format("  {}:{}", name.substr(dot + 1), text);
  }
  return out + kernels_yaml(fitted.calibration.kernels);
}

}  // namespace pipecast
