#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

/// A constant with its bounds.
void bounded(Fields& f, std::string_view key, Constant& c, std::string_view doc, double low,
             double high) {
  f.required(key, c, doc);
  f.check(c.low >= low, key, "low {} is below {}, the least that has a meaning", c.low, low);
  f.check(c.high <= high, key, "high {} is above {}, the most that has a meaning", c.high, high);
}

constexpr double kLongest = 1e6;  // microseconds: a second

// A fraction of nothing would make times infinite.
constexpr double kLeastFraction = 0.001;
void fraction(Fields& f, std::string_view key, Constant& c, std::string_view doc) {
  bounded(f, key, c, doc, kLeastFraction, 1);
}

}  // namespace

void describe(Fields& f, Constant& c) {
  f.required("value", c.value, "what forecasts use", at_least(0));
  f.required("low", c.low, "lower end of the plausible range", at_least(0));
  f.required("high", c.high, "upper end of the plausible range", at_least(0));
  f.required("source", c.source, "where the number comes from");
  f.check(c.low <= c.value, "value", "{} is below low = {}", c.value, c.low);
  f.check(c.value <= c.high, "value", "{} is above high = {}", c.value, c.high);
}

void describe(Fields& f, TensorEfficiency& t) {
  fraction(f, "gemm_fp8", t.gemm_fp8, "FP8 matrix products");
  fraction(f, "grouped_gemm_fp8", t.grouped_gemm_fp8, "FP8 matrix products of the routed experts");
  fraction(f, "gemm_fp8_wgrad", t.gemm_fp8_wgrad, "FP8 matrix products of weight gradients");
  fraction(f, "gemm_bf16", t.gemm_bf16, "BF16 matrix products");
}

void describe(Fields& f, AttentionConstants& a) {
  constexpr double kMostExposed = 20;  // times the softmax
  constexpr double kMostCycles = 1e6;
  bounded(f, "throttle_us", a.throttle_us,
          "microseconds of load after which the clock falls to what the chip's power allows", 0,
          kLongest);
  bounded(f, "launch_us", a.launch_us, "microseconds of each kernel in a chain of dependent ones",
          0, kLongest);
  bounded(f, "forward_exposed", a.forward_exposed,
          "softmax not hidden behind the tensor cores, in units of its time alone; BF16", 0,
          kMostExposed);
  bounded(f, "forward_exposed_fp8", a.forward_exposed_fp8, "the same with FP8 operands", 0,
          kMostExposed);
  bounded(f, "forward_tile_cycles", a.forward_tile_cycles,
          "SM clocks before and after the main loop of a block of queries or keys", 0, kMostCycles);
  bounded(f, "backward_exposed", a.backward_exposed,
          "the same of the backward pass, with the atomic sums of the query gradient", 0,
          kMostExposed);
  bounded(f, "decode_exposed", a.decode_exposed, "the same of absorbed decoding, BF16 cache", 0,
          kMostExposed);
  bounded(f, "decode_exposed_fp8", a.decode_exposed_fp8, "the same with an FP8 cache", 0,
          kMostExposed);
  bounded(f, "decode_page_cycles", a.decode_page_cycles,
          "SM clocks of turning to the next page of the cache", 0, kMostCycles);
  bounded(f, "decode_sequence_cycles", a.decode_sequence_cycles,
          "SM clocks before and after the pages of a sequence or of its part", 0, kMostCycles);
  bounded(f, "decode_split_us", a.decode_split_us,
          "microseconds of combining a sequence's parts, per part", 0, kLongest);
  fraction(f, "cache_hbm", a.cache_hbm, "pages of the cache, of the memory's line rate");
  fraction(f, "operand_hbm", a.operand_hbm,
           "rotated, quantised or single queries, of the memory's line rate");
}

void describe(Fields& f, LinkEfficiency& link) {
  fraction(f, "hbm", link.hbm, "streaming kernels, of the memory's line rate");
  fraction(f, "nvlink", link.nvlink, "per direction, of NVLink's line rate");
  fraction(f, "nic", link.nic, "per direction, of the NIC's line rate");
}

void describe(Fields& f, LatencyConstants& latency) {
  bounded(f, "kernel_us", latency.kernel_us, "microseconds of the shortest kernel", 0, kLongest);
  bounded(f, "launch_gap_us", latency.launch_gap_us,
          "microseconds between a kernel's end and the next one's start on a stream", 0, kLongest);
}

void describe(Fields& f, CommunicationConstants& communication) {
  bounded(f, "bytes_per_second_per_sm", communication.bytes_per_second_per_sm,
          "what one SM moves through a dispatch or combine kernel", 1e6, 1e15);
  bounded(f, "notify_us", communication.notify_us,
          "microseconds of the exchange of token counts before a transfer, nobody being late", 0,
          kLongest);
}

void describe(Fields& f, ContentionConstants& contention) {
  constexpr double kWorst = 100;
  bounded(f, "computation", contention.computation,
          "time of a computation kernel beside communication over its time alone", 1, kWorst);
  bounded(f, "dispatch", contention.dispatch,
          "time of a dispatch beside computation over its time alone", 1, kWorst);
  bounded(f, "combine", contention.combine,
          "time of a combine beside computation over its time alone", 1, kWorst);
}

void describe(Fields& f, CalibrationSpec& calibration) {
  f.required("gpu", calibration.gpu, "name of the GPU that it was measured on");
  f.required("tensor", calibration.tensor, "fractions of the dense tensor-core peak");
  f.required("attention", calibration.attention, "attention kernels");
  f.required("link", calibration.link, "fractions of line rates");
  f.required("latency", calibration.latency, "fixed times");
  f.required("communication", calibration.communication, "dispatch and combine kernels");
  f.required("contention", calibration.contention, "what running at the same time costs");
}

}  // namespace pipecast::config
