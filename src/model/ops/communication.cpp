/// Kernels of the all-to-all as far as one GPU goes. What the links add is model/collectives/.
#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "model/operations/exchange_shapes.hpp"
#include "model/operations/memory_shapes.hpp"
#include "model/ops/exchange.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

const Constant& notify(const CalibrationSpec& calibration) {
  return calibration.communication.notify_us;
}
const Constant& layout_cycles(const CalibrationSpec& calibration) {
  return calibration.communication.layout_cycles;
}
const Constant& rate(const CalibrationSpec& calibration) {
  return calibration.communication.bytes_per_second_per_sm;
}

double cycles_of(Duration time, const GpuSpec& gpu) {
  return to_seconds(time) * gpu.tensor_clock.count();
}

/// Exchange of token counts between the GPUs of the group, without waiting for late ones.
KernelCost exchange_counts(const Operation& op, const GpuSpec& gpu,
                           const CalibrationSpec& calibration, int) {
  const Duration time = duration_from_seconds(notify(calibration).value * 1e-6);
  const double cycles = cycles_of(time, gpu);
  return {.time = time,
          .cycles = cycles,
          .clock = gpu.tensor_clock,
          .flops = op.flops,
          .hbm_bytes = op.read + op.written,
          .limited_by = Limit::kLatency,
          .parts = {KernelPart{"exchange", cycles}}};
}

/// Every thread block reads the choices of all tokens and counts those of its experts.
KernelCost layout(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                  int) {
  const double clock = gpu.tensor_clock.count();
  const double launch = calibration.latency.kernel_us.value * 1e-6 * clock;
  const double counting = static_cast<double>(op.m * op.n) * layout_cycles(calibration).value;
  const Bytes bytes = op.read + op.written;
  const Bandwidth reached(gpu.hbm_bandwidth.count() * calibration.link.hbm.value);
  const double memory = static_cast<double>(bytes.count()) / reached.count() * clock;
  const double busy = std::max(counting, memory);
  return {.time = std::max(duration_from_seconds((launch + busy) / clock), bytes / reached),
          .cycles = launch + busy,
          .clock = gpu.tensor_clock,
          .flops = op.flops,
          .hbm_bytes = bytes,
          .limited_by = launch > busy       ? Limit::kLatency
                        : counting > memory ? Limit::kIssue
                                            : Limit::kHbm,
          .parts = {KernelPart{"launch", launch},
                    KernelPart{counting > memory ? "issue" : "hbm", busy}}};
}

/// Copies through the SMs, or through HBM where the SMs are many: every copy is loaded and stored
/// by its sender and again by its receiver.
KernelCost exchange(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                    int sms) {
  const ExchangeShape& shape = op.exchange;
  const ExchangeWork work = exchange_work(shape, calibration.communication, sms);
  constexpr double kPassesOverMemory = 4;
  const Bytes staged(std::llround(kPassesOverMemory * (shape.gpu_copies + shape.node_copies) *
                                  static_cast<double>(shape.copy.count())));
  const Duration memory =
      staged / Bandwidth(gpu.hbm_bandwidth.count() * calibration.link.hbm.value);
  const Duration busy = std::max(work.moving, memory);
  const Duration filled = work.start + work.filling;
  const double start_cycles = cycles_of(work.start, gpu);
  const double filling_cycles = cycles_of(work.filling, gpu);
  const double busy_cycles = cycles_of(busy, gpu);
  const bool issue = work.moving >= memory;
  return {.time = filled + busy,
          .cycles = start_cycles + filling_cycles + busy_cycles,
          .clock = gpu.tensor_clock,
          .flops = op.flops,
          .hbm_bytes = staged,
          .l2_bytes = staged,
          .limited_by = filled > busy ? Limit::kLatency
                        : issue       ? Limit::kIssue
                                      : Limit::kHbm,
          .parts = {KernelPart{"start", start_cycles}, KernelPart{"filling", filling_cycles},
                    KernelPart{issue ? "issue" : "hbm", busy_cycles}}};
}

constexpr std::array kGroup = {
    KernelOption{"tokens", "tokens that each GPU sends"},
    KernelOption{"hidden", "elements of a token"},
    KernelOption{"top_k", "experts per token", 8},
    KernelOption{"experts", "of the whole group", 256},
    KernelOption{"nodes", "among which the experts are spread", 1},
    KernelOption{"gpus_per_node", "GPUs of a node", 8},
    KernelOption{"node_limit", "nodes that a token may use; 0: all", 0},
};
constexpr std::array kLayout = {KernelOption{"tokens", "tokens that each GPU sends"},
                                KernelOption{"top_k", "experts per token", 8},
                                KernelOption{"counts", "experts and GPUs of the group"}};
constexpr std::array kNotify = {KernelOption{"counts", "experts and GPUs of the group"}};

/// Dispatches carry FP8 with scales, combines BF16, as DeepSeek-V3's do.
Operation make_exchange(std::string_view op, std::span<const std::int64_t> values) {
  require(values.size() == kGroup.size(), "{} has {} extents, not {}", op, kGroup.size(),
          values.size());
  const Exchange kind = op == "ep_dispatch" ? Exchange::kDispatch : Exchange::kCombine;
  const Precision precision = kind == Exchange::kDispatch ? Precision::kFp8 : Precision::kBf16;
  const ExchangeGroup group{.tokens = values[0],
                            .hidden = values[1],
                            .top_k = values[2],
                            .experts = values[3],
                            .nodes = values[4],
                            .gpus_per_node = values[5],
                            .node_limit = values[6]};
  return exchange_operation(even_exchange(kind, group, precision), group.hidden, precision);
}

Operation make_counts(std::string_view op, std::span<const std::int64_t> values) {
  return memory_operation(op, values);
}

const Register<KernelKind> kEntries[] = {
    {"ep_cached_notify", {exchange_counts, notify, kNotify, make_counts}},
    {"ep_combine", {exchange, rate, kGroup, make_exchange}},
    {"ep_dispatch", {exchange, rate, kGroup, make_exchange}},
    {"ep_layout", {layout, layout_cycles, kLayout, make_counts}},
    {"ep_notify", {exchange_counts, notify, kNotify, make_counts}},
};

}  // namespace

ExchangeWork exchange_work(const ExchangeShape& shape, const CommunicationConstants& constants,
                           int sms) {
  require(sms > 0, "an exchange kernel needs an SM");
  const bool dispatch = shape.kind == Exchange::kDispatch;
  const double copies = shape.gpu_copies +
                        constants.node_copy.value * shape.node_copies * (dispatch ? 1 : 2) +
                        (dispatch ? 0 : constants.sum_copy.value * shape.tokens);
  const double moving =
      copies * static_cast<double>(shape.copy.count()) / constants.bytes_per_second_per_sm.value;
  const double bookkeeping = dispatch ? constants.token_us.value * 1e-6 * shape.tokens +
                                            constants.copy_us.value * 1e-6 * shape.gpu_copies
                                      : 0;
  const double start_us = dispatch ? constants.dispatch_us.value : constants.combine_us.value;
  const double work = moving + bookkeeping;
  const double chunk = constants.chunk_tokens.value;
  const double passed_singly =
      constants.first_tokens.value +
      (chunk > 0 ? chunk * shape.tokens / (chunk * sms + shape.tokens) : 0);
  return {.start = duration_from_seconds(start_us * 1e-6),
          .filling = shape.tokens > 0 ? duration_from_seconds(work / shape.tokens * passed_singly)
                                      : Duration(),
          .moving = duration_from_seconds(work / sms)};
}

Bytes staged_bytes(const ExchangeShape& shape) {
  constexpr double kPerNodeCopy = 4;
  constexpr double kPerGpuCopy = 3;
  const double copies =
      shape.tokens + kPerNodeCopy * shape.node_copies + kPerGpuCopy * shape.gpu_copies;
  return Bytes(std::llround(copies * static_cast<double>(shape.copy.count())));
}

}  // namespace pipecast
