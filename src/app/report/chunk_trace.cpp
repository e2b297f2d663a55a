#include "app/report/chunk_trace.hpp"

#include <fmt/format.h>

#include "app/report/chrome_trace.hpp"

namespace pipecast {

namespace {

Time at(Duration since_start) { return Time(since_start.count()); }

/// "gemm_fp8 q_b".
std::string name_of(const Operation& operation) {
  return operation.label.empty() ? std::string(operation.op)
                                 : fmt::format("{} {}", operation.op, operation.label);
}

std::vector<TraceCounter> counters_of(const std::vector<GpuUse>& use) {
  std::vector<TraceCounter> out;
  const auto add = [&](const char* name, Duration when, double value) {
    out.push_back({.process = 0, .name = name, .when = at(when), .value = value});
  };
  const auto add_all = [&](Duration when, const GpuUse& stretch, double seconds) {
    constexpr double kGiga = 1e9;
    const auto rate = [&](double bytes) { return seconds > 0 ? bytes / seconds / kGiga : 0; };
    add("SMs held", when, stretch.sms);
    add("HBM GB/s", when, rate(stretch.hbm_bytes));
    add("NVLink GB/s", when, rate(stretch.nvlink_bytes));
    add("NIC GB/s", when, rate(stretch.nic_bytes));
  };
  for (const GpuUse& stretch : use) {
    add_all(stretch.start, stretch, to_seconds(stretch.end - stretch.start));
  }
  if (!use.empty()) add_all(use.back().end, GpuUse{}, 0);
  return out;
}

}  // namespace

void write_chunk_trace(const std::filesystem::path& path, const std::string& name,
                       const ChunkRun& run) {
  std::vector<TraceTrack> tracks;
  for (const Stream stream : {Stream::kCompute, Stream::kSide, Stream::kCommunication}) {
    tracks.push_back({0, static_cast<int>(stream), name, std::string(pipecast::name_of(stream))});
  }
  std::vector<TraceSlice> slices;
  for (const PlayedKernel& kernel : run.kernels) {
    slices.push_back({.process = 0,
                      .thread = static_cast<int>(kernel.launch.stream),
                      .name = name_of(kernel.operation),
                      .category = fmt::format("{} layer {}", pipecast::name_of(kernel.launch.phase),
                                              kernel.launch.layer),
                      .start = at(kernel.span.start),
                      .end = at(kernel.span.end)});
  }
  write_chrome_trace(path, tracks, std::move(slices), counters_of(run.use));
}

}  // namespace pipecast
