#include "app/calibrate/fit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "app/calibration/study_parts.hpp"
#include "app/forecast/assumptions.hpp"
#include "model/fit/quantile.hpp"
#include "model/operations/operation_kinds.hpp"

namespace pipecast {

namespace {

struct Family {
  MeasuredFamily family{};
  const char* name = "";
  std::vector<FreeConstant> (*constants)() = nullptr;
};

std::vector<FreeConstant> clock_constants() {
  return {{"clock.training_ghz", {.start = 1.75, .low = 1, .high = 1.98}}};
}
std::vector<FreeConstant> launch_gap_constants() {
  return {microseconds("latency.launch_gap_us", 2, 20)};
}
std::vector<FreeConstant> nvlink_constants() { return {fraction("link.nvlink", 0.7)}; }

std::vector<FreeConstant> own_product_constants() {
  std::vector<FreeConstant> out = product_constants();
  // Describe tiles and casts of other kernels.
  const std::set<std::string> others = {"product.one_wave_factor", "product.one_wave_cycles",
                                        "product.cast_launch_us", "product.cast_blocks_per_us"};
  out.erase(std::remove_if(out.begin(), out.end(),
                           [&](const FreeConstant& c) { return others.count(c.name) > 0; }),
            out.end());
  out.push_back(cycles("product.gradient_drain_cycles", 400));
  return out;
}

std::vector<FreeConstant> own_attention_constants() {
  std::vector<FreeConstant> out = attention_constants();
  out.push_back({"attention.backward_exposed", {.start = 0.8, .low = 0.01, .high = 10}});
  return out;
}

/// In the order of their dependence: all take the launch and the clock of those before.
const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies = {
      {MeasuredFamily::kMemory, "kernels that move memory", memory_constants},
      {MeasuredFamily::kLaunchGap, "launch gap", launch_gap_constants},
      {MeasuredFamily::kProducts, "products", own_product_constants},
      {MeasuredFamily::kAttention, "attention", own_attention_constants},
      {MeasuredFamily::kClock, "clock of training", clock_constants},
      {MeasuredFamily::kNvlink, "NVLink", nvlink_constants},
      {MeasuredFamily::kExchange, "exchange kernels", exchange_constants},
  };
  return kFamilies;
}

/// The kind of kernel that a measurement times; nothing for a probe.
std::string_view kind_of(const PlannedMeasurement& planned) {
  for (const OperationKind& kind : operation_kinds()) {
    if (kind.name == planned.name) return kind.name;
  }
  return {};
}

std::string source_of(const DeviceStamp& device) {
  return fmt::format("pipecast calibrate on {}, driver {}, {}", device.name, device.driver,
                     device.date);
}

FitStudy study_of(const Family& family, const std::vector<SessionRow>& rows,
                  const DeviceStamp& device) {
  FitStudy study{.name = family.name,
                 .source = source_of(device),
                 .evidence = Evidence::kCalibrated,
                 .constants = family.constants()};
  for (FreeConstant& free : study.constants) free.source.clear();
  for (const SessionRow& row : rows) {
    if (row.planned->family != family.family ||
        row.measurement.outcome != Measurement::Outcome::kTimed) {
      continue;
    }
    study.rows.push_back({.predict = row.planned->predict,
                          .measured = row.measurement.value,
                          .group = fmt::format("{} {}", row.planned->name, row.planned->shape),
                          .operation = kind_of(*row.planned)});
  }
  return study;
}

Constant* constant_named(CalibrationSpec& calibration, const std::string& name) {
  for (const NamedConstant& known : constants_of(calibration)) {
    if (known.name == name) return known.constant;
  }
  PIPECAST_ASSERT(false && "a study names a constant that there is not");
  return nullptr;
}

/// How much rows follow a constant: relative change of prediction over that of the constant.
struct Dependence {
  double total = 0;
  int rows = 0;  // that follow it at all
};

Dependence dependence_on(const std::string& name, const FitStudy& study,
                         const CalibrationSpec& calibration) {
  constexpr double kStep = 0.1;       // of the constant
  constexpr double kNoticed = 0.005;  // of a time: what a measurement resolves
  CalibrationSpec moved = calibration;
  Constant& constant = *constant_named(moved, name);
  constant.value *= 1 - kStep;
  Dependence out;
  for (const StudyRow& row : study.rows) {
    const double change = std::abs(row.predict(moved) / row.predict(calibration) - 1);
    if (change < kNoticed * kStep) continue;
    out.total += change / kStep;
    ++out.rows;
  }
  return out;
}

/// Leaves the constants that the study's rows decide, each beginning where the calibration has it.
void keep_decided(FitStudy& study, CalibrationSpec& calibration) {
  constexpr int kLeastRows = 2;
  const auto single = study.constants.size() == 1;
  std::vector<std::pair<double, FreeConstant>> decided;
  for (FreeConstant& free : study.constants) {
    FitParameter& parameter = free.parameter;
    Constant& constant = *constant_named(calibration, free.name);
    constant.value = std::clamp(constant.value, parameter.low, parameter.high);
    parameter.start = constant.value;
    const Dependence dependence = dependence_on(free.name, study, calibration);
    if (dependence.rows >= (single ? 1 : kLeastRows)) {
      decided.emplace_back(dependence.total, std::move(free));
    }
  }
  std::stable_sort(decided.begin(), decided.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  const std::size_t most = single ? 1 : study.rows.size() / 2;
  decided.resize(std::min(decided.size(), most));
  study.constants.clear();
  for (auto& [weight, free] : decided) study.constants.push_back(std::move(free));
}

/// Our products have one tile, chosen for training, and are timed without a cast.
void state_tiles(CalibrationSpec& calibration, const DeviceStamp& device) {
  constexpr double kTile = 128;  // rows and columns of src/kernels/gemm
  const auto state = [&](const std::string& name, double value) {
    *constant_named(calibration, name) = {
        .value = value,
        .low = value,
        .high = value,
        .source = "the kernels that were timed: " + source_of(device),
        .kind = Evidence::kCalibrated};
  };
  for (const char* name :
       {"product.tallest_tile", "product.widest_tile", "product.training_tile"}) {
    state(name, kTile);
  }
  state("product.one_wave_factor", 1);
  for (const char* name :
       {"product.one_wave_cycles", "product.cast_launch_us", "product.cast_blocks_per_us"}) {
    state(name, 0);
  }
}

double median_spread(const std::vector<SessionRow>& rows, MeasuredFamily family) {
  std::vector<double> spreads;
  for (const SessionRow& row : rows) {
    if (row.planned->family == family && row.measurement.outcome == Measurement::Outcome::kTimed) {
      spreads.push_back(row.measurement.spread);
    }
  }
  return spreads.empty() ? 0 : interpolated_quantile(spreads, 0.5);
}

/// The attention kernel that was timed is training's own.
void copy_to_training(CalibrationSpec& calibration, const std::set<std::string>& fitted) {
  if (fitted.count("attention.forward_exposed") == 0) return;
  calibration.attention.training_exposed = calibration.attention.forward_exposed;
}

}  // namespace

FittedCalibration fit_measurements(const std::vector<SessionRow>& rows,
                                   const KernelMachine& machine, const DeviceStamp& device) {
  FittedCalibration out;
  out.calibration = machine.calibration;
  CalibrationSpec& calibration = out.calibration;
  const std::vector<KernelEvidence> before = calibration.kernels;
  for (const NamedConstant& named : constants_of(calibration)) {
    Constant& constant = *named.constant;
    if (constant.source.rfind(kNotMeasured, 0) != 0)
      constant.source = kNotMeasured + constant.source;
    constant.kind = std::max(
        constant.kind, machine.measured_on_this_gpu() ? Evidence::kPublic : Evidence::kModelled);
    constant.spread = 0;
  }
  calibration.gpu = machine.gpu.name;
  calibration.device = device;
  calibration.allow_device_mismatch = false;

  std::vector<FitStudy> studies;
  std::vector<double> spreads;
  const auto timed_product = [](const SessionRow& row) {
    return row.planned->family == MeasuredFamily::kProducts &&
           row.measurement.outcome == Measurement::Outcome::kTimed;
  };
  if (std::any_of(rows.begin(), rows.end(), timed_product)) state_tiles(calibration, device);
  for (const Family& family : families()) {
    FitStudy study = study_of(family, rows, device);
    if (study.rows.empty()) continue;
    keep_decided(study, calibration);
    if (study.constants.empty()) continue;
    studies.push_back(std::move(study));
    spreads.push_back(median_spread(rows, family.family));
  }
  std::set<std::string> fitted;
  for (FitStudy& study : studies) {
    search_study(study, calibration);
    for (const FreeConstant& free : study.constants) fitted.insert(free.name);
  }
  for (std::size_t i = 0; i < studies.size(); ++i) {
    out.studies.push_back(run_study(studies[i], calibration));
    for (const FreeConstant& free : studies[i].constants) {
      constant_named(calibration, free.name)->spread = spreads[i];
    }
  }
  copy_to_training(calibration, fitted);

  // What this machine did not time rests on what it rested on before.
  for (const KernelEvidence& kernel : before) {
    FitStudy& any = studies.empty() ? studies.emplace_back() : studies.front();
    KernelEvidence stated = kernel;
    stated.kind = std::max(stated.kind, Evidence::kPublic);
    if (stated.source.rfind(kNotMeasured, 0) != 0) stated.source = kNotMeasured + stated.source;
    any.stated_kernels.push_back(std::move(stated));
  }
  calibration.kernels = evidence_of(studies);
  return out;
}

}  // namespace pipecast
