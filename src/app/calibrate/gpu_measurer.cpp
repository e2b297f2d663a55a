#include "app/calibrate/gpu_measurer.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "base/registry.hpp"
#include "kernels/calibration/peer_exchange.hpp"
#include "kernels/calibration/statistics.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/memory/buffer.hpp"
#include "kernels/simt/device_error.hpp"

namespace pipecast {

namespace {

using kernels::CaseMaker;
using kernels::TimedCase;
using Outcome = Measurement::Outcome;

constexpr kernels::TimingOptions kTiming{.warm_up = 5, .repetitions = 31, .flush_l2 = true};

bool is_exchange(const PlannedMeasurement& planned) {
  return planned.name == "ep_dispatch" || planned.name == "ep_combine";
}

bool is_link(const PlannedMeasurement& planned) {
  return planned.name == kPeerCopy || planned.name == kNcclAllToAll;
}

std::int64_t extent_of(const PlannedMeasurement& planned, std::string_view name) {
  for (const NamedExtent& extent : planned.extents) {
    if (extent.name == name) return extent.value;
  }
  throw Error(fmt::format("{}: no extent '{}'", planned.name, name));
}

std::optional<TimedCase> case_of(const PlannedMeasurement& planned) {
  const auto& makers = Registry<CaseMaker>::instance();
  if (!makers.contains(planned.name)) return std::nullopt;
  kernels::CaseOptions options;
  for (const NamedExtent& extent : planned.extents) options[extent.name] = extent.value;
  return makers.find(planned.name).make(options, planned.sms);
}

Measurement timed(const std::vector<double>& times, int launches) {
  const kernels::RepeatedTimes summary = kernels::summary_of(times);
  return {.outcome = Outcome::kTimed,
          .value = summary.median / launches,
          .spread = summary.spread,
          .repetitions = static_cast<int>(times.size())};
}

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%d}", fmt::gmtime(now));
}

}  // namespace

GpuMeasurer::GpuMeasurer(const kernels::GpuInventory& machine, std::vector<int> devices)
    : devices_(std::move(devices)),
      telemetry_(machine.devices.at(static_cast<std::size_t>(devices_.front())).pci_bus_id) {
  const kernels::GpuDevice& gpu = machine.devices.at(static_cast<std::size_t>(devices_.front()));
  kernels::use_gpu(devices_.front());
  const std::string driver =
      telemetry_.driver().empty() ? "for CUDA " + gpu.cuda : telemetry_.driver();
  device_ = {.name = gpu.name, .driver = driver, .date = today()};
}

Measurement GpuMeasurer::measure(const PlannedMeasurement& planned) {
  try {
    if (planned.name == kClockUnderLoad) return measure_clock();
    if (is_exchange(planned)) return measure_exchange(planned);
    return is_link(planned) ? measure_links(planned) : measure_kernel(planned);
  } catch (const kernels::DeviceError& error) {
    throw Error(fmt::format("{}: {}", planned.key(), error.what()));
  }
}

Measurement GpuMeasurer::measure_kernel(const PlannedMeasurement& planned) {
  const std::optional<TimedCase> kernel = case_of(planned);
  if (!kernel) return {.outcome = Outcome::kNoKernel, .note = "no kernel for this shape yet"};
  if (kernel->prepare) kernel->prepare();
  kernel->run();
  kernels::synchronise();
  const double error = kernel->error();
  if (!(error <= kernel->tolerance)) {
    return {.outcome = Outcome::kWrong,
            .error = error,
            .tolerance = kernel->tolerance,
            .note = fmt::format("wrong by {:.3g}, tolerated are {:.3g}", error, kernel->tolerance)};
  }
  telemetry_.start();
  const std::vector<double> times = kernels::time_on_gpu(kernel->run, kTiming, kernel->prepare);
  const kernels::TelemetrySample load = telemetry_.stop();
  Measurement out = timed(times, kernel->launches);
  out.error = error;
  out.tolerance = kernel->tolerance;
  out.clock_ghz = load.clock_ghz;
  out.power_w = load.power_w;
  out.temperature_c = load.temperature_c;
  return out;
}

/// Products without a pause, sampled after the clock has settled.
Measurement GpuMeasurer::measure_clock() {
  if (!telemetry_.reason().empty()) {
    return {.outcome = Outcome::kNoKernel, .note = telemetry_.reason()};
  }
  const std::vector<NamedExtent> large = {{"m", 4096},
                                          {"n", 7168},
                                          {"k", 4096},
                                          {"groups", 1},
                                          {"promotion", 1},
                                          {"cast", 0},
                                          {"full-accumulation", 0},
                                          {"native-scaling", 0},
                                          {"masked", 0}};
  const PlannedMeasurement product{.name = "gemm_fp8", .extents = large};
  const std::optional<TimedCase> kernel = case_of(product);
  if (!kernel) return {.outcome = Outcome::kNoKernel, .note = "no FP8 product to load it with"};
  const auto run_for = [&](std::chrono::milliseconds time) {
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < time) {
      constexpr int kQueued = 50;  // some tens of milliseconds: the queue never runs dry for long
      for (int i = 0; i < kQueued; ++i) kernel->run();
      kernels::synchronise();
    }
  };
  run_for(std::chrono::milliseconds(1000));
  telemetry_.start();
  run_for(std::chrono::milliseconds(1000));
  const kernels::TelemetrySample load = telemetry_.stop();
  if (!load.clock_ghz) return {.outcome = Outcome::kNoKernel, .note = "NVML tells no clock"};
  return {.outcome = Outcome::kTimed,
          .value = *load.clock_ghz,
          .spread = load.clock_spread.value_or(0),
          .repetitions = 1,
          .clock_ghz = load.clock_ghz,
          .power_w = load.power_w,
          .temperature_c = load.temperature_c};
}

Measurement GpuMeasurer::measure_links(const PlannedMeasurement& planned) {
  const std::int64_t bytes = extent_of(planned, "bytes");
  try {
    if (planned.name == kPeerCopy) {
      return timed(kernels::time_peer_copy(devices_[0], devices_[1], bytes, kTiming), 1);
    }
    return timed(kernels::time_nccl_all_to_all(devices_, bytes, kTiming), 1);
  } catch (const kernels::DeviceError& error) {
    return {.outcome = Outcome::kNoKernel, .note = error.what()};
  }
}

/// Windows in the memory of the machine's first GPUs, whose numbers are the ranks'.
Measurement GpuMeasurer::measure_exchange(const PlannedMeasurement& planned) {
  for (int rank = 0; rank < planned.gpus; ++rank) {
    if (devices_.at(static_cast<std::size_t>(rank)) != rank) {
      return {.outcome = Outcome::kNoKernel,
              .note = "ranks are the machine's first GPUs: --gpus N"};
    }
  }
  if (kernels::most_ranks() < planned.gpus) {
    return {.outcome = Outcome::kNoKernel, .note = "the GPUs cannot reach each other's memory"};
  }
  const auto extent = [&](std::string_view name) {
    return static_cast<int>(extent_of(planned, name));
  };
  kernels::PeerExchange exchange({.ranks = planned.gpus,
                                  .tokens = extent("tokens"),
                                  .hidden = extent("hidden"),
                                  .experts = extent("experts"),
                                  .top_k = extent("top_k"),
                                  .sms = planned.sms});
  const double wrong = exchange.wrong_share();
  if (wrong > 0) {
    return {.outcome = Outcome::kWrong,
            .error = wrong,
            .tolerance = 0,
            .note = fmt::format("{:.3g} of what was looked at is wrong", wrong)};
  }
  const bool dispatch = planned.name == "ep_dispatch";
  Measurement out =
      timed(kernels::time_ranks_together(
                planned.gpus,
                [&](int rank) {
                  dispatch ? exchange.launch_dispatch(rank) : exchange.launch_combine(rank);
                },
                kTiming, [&] { exchange.prepare(); }),
            1);
  out.error = wrong;
  return out;
}

bool has_kernel(const PlannedMeasurement& planned) {
  return planned.name == kClockUnderLoad || is_link(planned) || is_exchange(planned) ||
         Registry<CaseMaker>::instance().contains(planned.name);
}

}  // namespace pipecast
