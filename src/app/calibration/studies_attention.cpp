/// Studies of attention: prefill, absorbed decoding, and training's backward.
#include <fmt/format.h>

#include "app/calibration/study_parts.hpp"

namespace pipecast {

namespace {

/// What stays the same while sequences grow.
const std::vector<std::string_view> kShape = {"kv_dtype", "heads", "batch"};

std::vector<StudyRow> attention_rows(const StudyInput& input, const char* file,
                                     std::string_view op) {
  return kernel_rows(read_kernels(input.traces / file, op, kShape), input.gpu());
}

/// Of an exposed softmax: from hidden to several times what it would take alone.
FreeConstant exposed(std::string name, double start) {
  return {std::move(name), {.start = start, .low = 0.01, .high = 10}};
}

}  // namespace

std::vector<FreeConstant> attention_constants() {
  return {
      microseconds("attention.launch_us", 4, 30),
      exposed("attention.forward_exposed", 0.6),
      exposed("attention.forward_exposed_fp8", 1.1),
      {"attention.forward_tile_cycles", {.start = 4300, .low = 1, .high = 3e4}},
      exposed("attention.decode_exposed", 1.8),
      exposed("attention.decode_exposed_fp8", 3.3),
      {"attention.decode_page_cycles", {.start = 320, .low = 1, .high = 3000}},
      {"attention.decode_sequence_cycles", {.start = 6600, .low = 1, .high = 3e4}},
      {"attention.decode_split_us", {.start = 0.07, .low = 0.001, .high = 1}},
      {"attention.cache_hbm", {.start = 0.94, .low = 0.5, .high = 0.96}},
      {"attention.operand_hbm", {.start = 0.63, .low = 0.2, .high = 1}},
  };
}

/// Both tables of one campaign jointly: they share launches, clock and HBM.
FitStudy attention_on_h100(const StudyInput& input) {
  FitStudy study{.name = "attention",
                 .source = "traces/h100/mla_prefill_attention.csv and mla_decode_attention.csv",
                 .constants = attention_constants(),
                 .most_rows = 600};  // a long causal row takes half a millisecond
  for (StudyRow& row : attention_rows(input, "h100/mla_prefill_attention.csv", "attention_fwd")) {
    study.rows.push_back(std::move(row));
  }
  for (StudyRow& row : attention_rows(input, "h100/mla_decode_attention.csv", "attention_decode")) {
    study.rows.push_back(std::move(row));
  }
  return study;
}

/// Other kernels on the same chip: the softmax is what their versions changed.
FitStudy attention_forward_on_h800(const StudyInput& input, CalibrationSpec& h100) {
  return {.name = "attention forward",
          .source = "traces/h800_kernels/mla_prefill_attention.csv, all else as on H100",
          .constants = {exposed("attention.forward_exposed", 0.6)},
          .stated = as_on_h100(
              h100, {"attention.launch_us", "attention.forward_exposed_fp8",
                     "attention.forward_tile_cycles", "attention.decode_exposed_fp8",
                     "attention.decode_page_cycles", "attention.decode_sequence_cycles",
                     "attention.decode_split_us", "attention.cache_hbm", "attention.operand_hbm"}),
          .rows = attention_rows(input, "h800_kernels/mla_prefill_attention.csv", "attention_fwd")};
}

FitStudy attention_decode_on_h800(const StudyInput& input) {
  return {
      .name = "attention decode",
      .source = "traces/h800_kernels/mla_decode_attention.csv, all else as on H100",
      .constants = {exposed("attention.decode_exposed", 1.8)},
      .rows = attention_rows(input, "h800_kernels/mla_decode_attention.csv", "attention_decode")};
}

FitStudy attention_in_training(const StudyInput& input, const std::string& op) {
  const bool forward = op == "attention_fwd";
  return {.name = op + " in training",
          .source = fmt::format("{}, {}, at the clock of training; the family's one constant",
                                kTraceName, op),
          .constants = {exposed(
              forward ? "attention.training_exposed" : "attention.backward_exposed", 0.8)},
          .rows = trace_rows(
              input, [op](const TracedKernel& kernel) { return kernel.operation.op == op; })};
}

}  // namespace pipecast
