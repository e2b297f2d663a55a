#include "model/ops/attention_machine.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "model/ops/clock.hpp"

namespace pipecast {

namespace {

// Hopper SM (CUDA programming guide, throughput of arithmetic instructions, compute capability
// 9.0): operations per clock.
constexpr double kExponentialsPerClock = 16;

}  // namespace

Frequency attention_clock(const GpuSpec& gpu, const CalibrationSpec& calibration, int sms,
                          double tensor_cycles, double cycles) {
  if (cycles <= 0) return gpu.max_clock;
  const double share = tensor_cycles / cycles;
  const Frequency clock =
      sustained_clock(gpu, calibration, share * sms / gpu.sm_count, cycles / gpu.max_clock.count());
  return share > 0 ? std::min(clock, Frequency(gpu.tensor_clock.count() / share)) : clock;
}

double tensor_flop_per_clock(const Operation& op, const GpuSpec& gpu) {
  const double rate = gpu.tensor_flop_per_clock_per_sm(op.precision);
  require(rate > 0, "{} has no {} tensor cores for {}", gpu.name, name_of(op.precision), op.op);
  return rate;
}

double softmax_cycles(double scores, double instructions) {
  return scores * (1 / kExponentialsPerClock + instructions / kFp32LanesPerSm);
}

void set_parts(KernelCost& cost, Frequency clock, std::initializer_list<LimitedPart> parts) {
  PIPECAST_ASSERT(parts.size() <= kMaxKernelParts);
  constexpr std::size_t kLimits = static_cast<std::size_t>(Limit::kOccupancy) + 1;
  std::array<double, kLimits> by_limit{};
  std::size_t used = 0;
  for (const LimitedPart& part : parts) {
    if (part.cycles <= 0) continue;
    cost.parts[used++] = {part.name, part.cycles};
    cost.cycles += part.cycles;
    by_limit[static_cast<std::size_t>(part.limit)] += part.cycles;
  }
  cost.clock = clock;
  cost.time = duration_from_seconds(cost.cycles / clock.count());
  const auto most = std::max_element(by_limit.begin(), by_limit.end());
  cost.limited_by = *most > 0 ? static_cast<Limit>(most - by_limit.begin()) : Limit::kLatency;
}

void check_attention(const Operation& op, int sms) {
  const AttentionShape& s = op.attention;
  PIPECAST_ASSERT(sms >= 1);
  require(s.batch >= 0 && s.heads > 0 && s.queries >= 0 && s.qk_dim > 0 && s.v_dim > 0,
          "{}: no such shape: batch={} heads={} queries={} qk_dim={} v_dim={}", op.op, s.batch,
          s.heads, s.queries, s.qk_dim, s.v_dim);
  require(s.keys >= s.queries, "{}: {} keys are fewer than the {} queries", op.op, s.keys,
          s.queries);
  require(s.kv_heads > 0 && s.heads % s.kv_heads == 0,
          "{}: {} heads are no multiple of {} kv_heads", op.op, s.heads, s.kv_heads);
}

std::optional<Precision> cache_format(std::int64_t value) {
  switch (value) {
    case 1:
      return Precision::kBf16;
    case 2:
      return Precision::kFp8;
    default:
      return std::nullopt;
  }
}

}  // namespace pipecast
