#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>

#include "model/collectives/links.hpp"
#include "model/ops/attention_machine.hpp"
#include "model/ops/training.hpp"
#include "scenarios.hpp"
#include "sim/gpu/chunk_kernels.hpp"
#include "sim/gpu/timeline.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

struct Played {
  std::vector<Launch> launches;
  std::vector<KernelSpan> spans;

  [[nodiscard]] Duration end() const {
    Duration out;
    for (const KernelSpan& span : spans) out = std::max(out, span.end);
    return out;
  }
  [[nodiscard]] Duration took(std::size_t launch) const {
    return spans[launch].end - spans[launch].start;
  }
};

/// One GPU of a scenario.
class Gpu {
 public:
  explicit Gpu(Scenario s)
      : scenario(std::move(s)), chunks(scenario, scenario.plan, routing_of(scenario)) {}

  Played run(const ChunkShape& chunk) {
    Played out{.launches = chunks.launches(chunk), .spans = {}};
    out.spans = play(out.launches, chunks.table());
    return out;
  }

  [[nodiscard]] const GpuKernel& kernel(const Launch& launch) {
    return chunks.table().at(launch.kernel);
  }

  /// A kernel alone on all SMs that it could have.
  const GpuKernelCost& alone(std::int32_t kernel) {
    const GpuKernel& k = chunks.table().at(kernel);
    return chunks.table().cost(kernel,
                               k.use == SmUse::kGrid ? k.grid : scenario.cluster.gpu.sm_count);
  }

  [[nodiscard]] Duration gap() const {
    return duration_from_seconds(scenario.calibration.latency.launch_gap_us.value * 1e-6);
  }

  const Scenario scenario;
  ChunkKernels chunks;
};

std::string either_scenario() {
  return GENERATE(as<std::string>{}, "tiny-moe-h100", "deepseek-v3-h800");
}

const std::vector<std::string> kNothingBeside = {"plan.overlap.communication=false",
                                                 "plan.overlap.weight_gradient_streams=1"};

/// Every kind of chunk, of stages with all kinds of layers, equal and unequal ones.
std::vector<ChunkShape> shapes_of(const Scenario& s) {
  const PipelineLayout& layout = s.plan.pipeline_layout;
  std::vector<ChunkShape> out;
  for (int kind = 0; kind < kChunkKinds; ++kind) {
    for (const auto& forward : {layout.front(), layout[1], layout.back()}) {
      for (const auto& backward : {layout.front(), layout[1], layout.back()}) {
        out.push_back(
            {.kind = static_cast<ChunkKind>(kind), .forward = forward, .backward = backward});
      }
    }
  }
  return out;
}

ChunkShape moe_pair(std::size_t layers) {
  const std::vector<LayerKind> stage(layers, LayerKind::kMoe);
  return {.kind = ChunkKind::kOverlapped, .forward = stage, .backward = stage};
}

/// The launch before each one on its stream; -1: none.
std::vector<int> stream_predecessors(const std::vector<Launch>& launches) {
  std::array<int, 3> last = {-1, -1, -1};
  std::vector<int> out;
  for (const Launch& launch : launches) {
    int& previous = last[static_cast<std::size_t>(launch.stream)];
    out.push_back(std::exchange(previous, static_cast<int>(out.size())));
  }
  return out;
}

/// H100's measured anomaly of products of a single wave (ProductConstants::one_wave_factor).
void without_one_wave_stall(Scenario& s) {
  s.calibration.product.one_wave_factor.value = 1;
  s.calibration.product.one_wave_cycles.value = 0;
}

double per_second(double amount, Duration time) { return amount / to_microseconds(time) * 1e6; }

}  // namespace

TEST_CASE("with nothing beside anything a chunk takes its kernels' times and a gap between any two",
          "[timeline]") {
  Gpu gpu(shipped(either_scenario(), kNothingBeside));
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    const Played chunk = gpu.run(shape);
    REQUIRE_FALSE(chunk.launches.empty());
    Duration sum = gpu.gap() * (static_cast<std::int64_t>(chunk.launches.size()) - 1);
    for (const Launch& launch : chunk.launches) sum += gpu.alone(launch.kernel).time;
    REQUIRE(chunk.end() == sum);
  }
}

TEST_CASE(
    "a launch starts a gap after the last one that it waits for, or when another leaves it SMs",
    "[timeline]") {
  // Hence launches of a stream never overlap.
  Gpu gpu(shipped(either_scenario()));
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    const Played chunk = gpu.run(shape);
    const std::vector<int> previous = stream_predecessors(chunk.launches);
    for (std::size_t i = 0; i < chunk.launches.size(); ++i) {
      const auto& after = chunk.launches[i].after;
      Duration start;
      for (const int before : {previous[i], int{after[0]}, int{after[1]}}) {
        REQUIRE(before < static_cast<int>(i));
        if (before < 0) continue;
        start = std::max(start, chunk.spans[static_cast<std::size_t>(before)].end + gpu.gap());
      }
      REQUIRE(chunk.spans[i].start >= start);
      if (chunk.spans[i].start == start) continue;
      const bool room =
          std::any_of(chunk.spans.begin(), chunk.spans.end(),
                      [&](const KernelSpan& other) { return other.end == chunk.spans[i].start; });
      REQUIRE(room);
    }
  }
}

TEST_CASE("weight gradients wait for their input gradient alone, wherever they are launched",
          "[timeline]") {
  const std::string moved =
      "plan.overlap.order=[combine(B), attn(F), dispatch(F), mlp(B), dispatch(B), mlp(F), "
      "combine(F), mlp(W), attn(B), attn(W)]";
  Gpu gpu(shipped(either_scenario(), {moved}));
  const Played chunk = gpu.run(moe_pair(2));
  int gradients = 0;
  for (const Launch& launch : chunk.launches) {
    const bool mlp = launch.phase == Phase::kMlpWeight;
    if ((!mlp && launch.phase != Phase::kAttentionWeight) || launch.after[0] < 0) continue;
    const Launch& before = chunk.launches[static_cast<std::size_t>(launch.after[0])];
    if (before.phase == launch.phase) continue;
    ++gradients;
    REQUIRE(before.phase == (mlp ? Phase::kMlpBackward : Phase::kAttentionBackward));
    REQUIRE(before.layer == launch.layer);
  }
  REQUIRE(gradients >= 2 * 2);
}

TEST_CASE("playing twice gives the same times, on another GPU too", "[timeline]") {
  const std::string name = either_scenario();
  Gpu gpu(shipped(name));
  Gpu other(shipped(name));
  const auto times = [](const Played& chunk) {
    std::vector<std::pair<Duration, Duration>> out;
    for (const KernelSpan& span : chunk.spans) out.emplace_back(span.start, span.end);
    return out;
  };
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    const auto first = times(gpu.run(shape));
    REQUIRE(times(gpu.run(shape)) == first);
    REQUIRE(times(other.run(shape)) == first);
  }
}

TEST_CASE("a kernel alone takes its cost's time", "[timeline]") {
  Gpu gpu(shipped(either_scenario()));
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) gpu.chunks.launches(shape);
  REQUIRE(gpu.chunks.table().size() > 0);
  for (int kernel = 0; kernel < gpu.chunks.table().size(); ++kernel) {
    const std::vector<KernelSpan> spans = play({Launch{.kernel = kernel}}, gpu.chunks.table());
    REQUIRE(spans.front().start == Duration());
    REQUIRE(spans.front().end == gpu.alone(kernel).time);
  }
}

TEST_CASE("nothing gets faster by running beside something else", "[timeline]") {
  const int sms = GENERATE(0, 1, 4, 8, 16, 20, 24, 32, 64);
  Gpu gpu(shipped(either_scenario(), {fmt::format("plan.communication_sms={}", sms)}));
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    const Played chunk = gpu.run(shape);
    for (std::size_t i = 0; i < chunk.launches.size(); ++i) {
      REQUIRE(chunk.took(i) >= gpu.alone(chunk.launches[i].kernel).time);
    }
  }
}

TEST_CASE("a pair of MoE stages is faster than its passes one after the other", "[timeline]") {
  // Not so for dense layers: in a pair their products leave SMs free that nothing uses.
  Gpu gpu(shipped(either_scenario()));
  ChunkShape shape = moe_pair(GENERATE(as<std::size_t>{}, 1, 4));
  const Duration pair = gpu.run(shape).end();
  shape.kind = ChunkKind::kForward;
  const Duration forward = gpu.run(shape).end();
  shape.kind = ChunkKind::kBackward;
  const Duration backward = gpu.run(shape).end();
  REQUIRE(pair < forward + backward);
  REQUIRE(pair > std::max(forward, backward));
}

TEST_CASE("with infinite links, and nothing that moves tokens through SMs, computation never waits",
          "[timeline]") {
  // BF16 needs no cast on the communication stream; on one stream, busy times add up.
  Scenario s =
      shipped(either_scenario(), {"plan.precision.dispatch=bf16", "plan.communication_sms=0",
                                  "plan.overlap.weight_gradient_streams=1"});
  constexpr double kInfinite = 1e6;
  s.cluster.nvlink.bandwidth = s.cluster.nvlink.bandwidth * kInfinite;
  s.cluster.nic.bandwidth = s.cluster.nic.bandwidth * kInfinite;
  s.cluster.pcie.bandwidth = s.cluster.pcie.bandwidth * kInfinite;
  s.cluster.gpu.hbm_bandwidth = s.cluster.gpu.hbm_bandwidth * kInfinite;  // transfers stage there
  s.cluster.nvlink.latency = s.cluster.nic.latency = Duration();
  s.calibration.communication.notify_us.value = 1e-6;  // a picosecond
  Gpu gpu(std::move(s));
  const Played chunk = gpu.run(moe_pair(4));

  // One gap fewer than launches.
  Duration busy = gpu.gap() * -1;
  Duration alone = gpu.gap() * -1;
  Duration beside;
  for (std::size_t i = 0; i < chunk.launches.size(); ++i) {
    if (chunk.launches[i].stream == Stream::kCommunication) {
      beside += chunk.took(i);
      continue;
    }
    REQUIRE(chunk.launches[i].stream == Stream::kCompute);
    busy += chunk.took(i) + gpu.gap();
    alone += gpu.alone(chunk.launches[i].kernel).time + gpu.gap();
  }
  REQUIRE(chunk.end() == busy);
  // What still runs beside, above all ep_layout, delays by no more than it takes itself.
  REQUIRE(chunk.end() >= alone);
  REQUIRE(chunk.end() <= alone + beside);
}

TEST_CASE("kernels of the communication stream hold their SMs, the others are served in turn",
          "[timeline]") {
  Gpu gpu(shipped(either_scenario()));
  gpu.chunks.launches(moe_pair(1));
  KernelTable& table = gpu.chunks.table();
  const int all = gpu.scenario.cluster.gpu.sm_count;
  const int beside = gpu.scenario.plan.communication_sms;
  const auto find = [&](auto condition) {
    for (int kernel = 0; kernel < table.size(); ++kernel) {
      if (condition(table.at(kernel))) return kernel;
    }
    return -1;
  };
  const int product = find([](const GpuKernel& k) { return is_product(k.operation); });
  const int free = find([](const GpuKernel& k) { return k.use == SmUse::kFree; });
  const int transfer = find([](const GpuKernel& k) { return k.transfer; });
  REQUIRE(std::min({product, free, transfer}) >= 0);
  const auto sms = [&](std::array<std::int32_t, kStreams> kernels,
                       std::array<std::int32_t, kStreams> order) {
    return share_gpu({.kernel = kernels, .order = order}, table).sms;
  };
  using Sms = std::array<int, kStreams>;
  REQUIRE(sms({product, -1, transfer}, {1, 0, 2}) == Sms{all - beside, 0, beside});
  REQUIRE(sms({free, -1, transfer}, {2, 0, 1}) == Sms{all - beside, 0, beside});
  REQUIRE(sms({free, -1, transfer}, {1, 0, 2}) == Sms{all - beside, 0, beside});
  REQUIRE(sms({product, free, -1}, {1, 2, 0}) == Sms{all - beside, beside, 0});
  REQUIRE(sms({product, free, -1}, {2, 1, 0}) == Sms{0, all, 0});
  REQUIRE(sms({free, free, -1}, {1, 2, 0}) == Sms{all, 0, 0});
  // A grid takes what is free and waits for the rest.
  const GpuShares waiting =
      share_gpu({.kernel = {product, product, -1}, .order = {1, 2, 0}}, table);
  REQUIRE(waiting.sms == Sms{all - beside, beside, 0});
  REQUIRE_FALSE(waiting.time[1]);
  REQUIRE(sms({product, free, transfer}, {1, 2, 3}) == Sms{all - beside, 0, beside});
  // Who has no SMs waits.
  REQUIRE_FALSE(share_gpu({.kernel = {free, free, -1}, .order = {1, 2, 0}}, table).time[1]);
}

TEST_CASE("two kernels get max-min shares of the HBM", "[timeline]") {
  // With links four times as fast and no SMs that pace them, transfers want most of the HBM.
  const bool fast = GENERATE(false, true);
  Scenario s = shipped("deepseek-v3-h800");
  if (fast) {
    s.plan.communication_sms = 0;
    for (Bandwidth* const link :
         {&s.cluster.nvlink.bandwidth, &s.cluster.nic.bandwidth, &s.cluster.pcie.bandwidth}) {
      *link = *link * 4;
    }
  }
  Gpu gpu(std::move(s));
  gpu.chunks.launches(moe_pair(1));
  KernelTable& table = gpu.chunks.table();
  const CalibrationSpec& calibration = gpu.scenario.calibration;
  const double hbm = gpu.scenario.cluster.gpu.hbm_bandwidth.count() * calibration.link.hbm.value;
  const double l2 = kL2BytesPerClock * calibration.clock.training_ghz.value * 1e9;
  int both = 0;  // pairs in which both are slowed
  int one = 0;   // in which one gets all that it asks for, the other what is left
  const auto check = [&](std::int32_t computing, std::int32_t other, std::size_t stream) {
    Running running;
    running.kernel[0] = computing;
    running.kernel[stream] = other;
    running.order[stream] = 1;
    const GpuShares shares = share_gpu(running, table);
    if (!shares.time[0] || !shares.time[stream]) return;  // one waits for SMs
    const GpuKernelCost a = table.cost(computing, shares.sms[0]);
    const GpuKernelCost b = table.cost(other, shares.sms[stream]);
    const Duration beside = table.at(other).transfer ? b.beside : b.time;
    const double l2_rate = per_second(a.l2_bytes, a.time) + per_second(b.l2_bytes, beside);
    if (l2_rate > l2) return;  // there, other shares count
    const double asked_a = per_second(a.hbm_bytes, a.time);
    const double asked_b = per_second(b.hbm_bytes, beside);
    if (std::max(asked_a, asked_b) > hbm) return;
    // Each can have what the other leaves, and half at least.
    const double slower_a = std::max(1.0, asked_a / std::max(hbm - asked_b, hbm / 2));
    const double slower_b = std::max(1.0, asked_b / std::max(hbm - asked_a, hbm / 2));
    REQUIRE(to_microseconds(*shares.time[0]) == Approx(to_microseconds(a.time) * slower_a));
    REQUIRE(to_microseconds(*shares.time[stream]) == Approx(to_microseconds(beside) * slower_b));
    if (slower_a > 1 && slower_b > 1) ++both;
    if ((slower_a > 1) != (slower_b > 1)) ++one;
  };
  for (int a = 0; a < table.size(); ++a) {
    if (table.at(a).transfer) continue;
    for (int b = 0; b < table.size(); ++b) {
      check(a, b, 2);
      if (!table.at(b).transfer) check(a, b, 1);
    }
  }
  REQUIRE((fast ? both : one) > 0);
}

TEST_CASE("a streaming kernel beside a dispatch takes its bytes at the rate that is left",
          "[timeline]") {
  Gpu gpu(shipped("deepseek-v3-h800"));
  KernelTable& table = gpu.chunks.table();
  std::int32_t dispatch = -1;
  for (const Launch& launch : gpu.chunks.launches(moe_pair(1))) {
    if (gpu.kernel(launch).transfer && launch.phase == Phase::kDispatchForward) {
      dispatch = launch.kernel;
    }
  }
  REQUIRE(dispatch >= 0);
  // It writes and reads its copies at their pace, far below half of what the HBM carries.
  const GpuKernelCost tokens = table.cost(dispatch, 0);
  const double staging = per_second(tokens.hbm_bytes, tokens.beside);
  const GpuSpec& h800 = gpu.scenario.cluster.gpu;
  const double hbm = h800.hbm_bandwidth.count() * gpu.scenario.calibration.link.hbm.value;
  REQUIRE(staging < hbm / 2);
  const int left = h800.sm_count - gpu.scenario.plan.communication_sms;
  int streaming = 0;
  for (int kernel = 0; kernel < table.size(); ++kernel) {
    if (table.at(kernel).use != SmUse::kFree) continue;
    const GpuKernelCost alone = table.cost(kernel, left);
    if (per_second(alone.hbm_bytes, alone.time) <= hbm - staging) continue;
    ++streaming;
    const GpuShares shares = share_gpu({.kernel = {kernel, -1, dispatch}}, table);
    REQUIRE(to_microseconds(*shares.time[0]) == Approx(alone.hbm_bytes / (hbm - staging) * 1e6));
  }
  REQUIRE(streaming > 0);
}

TEST_CASE("no chunk moves more bytes than HBM and links carry in its time", "[timeline]") {
  Gpu gpu(shipped(either_scenario()));
  const ClusterSpec& cluster = gpu.scenario.cluster;
  const CalibrationSpec& calibration = gpu.scenario.calibration;
  const double hbm = cluster.gpu.hbm_bandwidth.count() * calibration.link.hbm.value;
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    const Played chunk = gpu.run(shape);
    GpuKernelCost sum;
    for (const Launch& launch : chunk.launches) {
      const GpuKernelCost& cost = gpu.alone(launch.kernel);
      sum.hbm_bytes += cost.hbm_bytes;
      sum.nvlink_bytes += cost.nvlink_bytes;
      sum.nic_bytes += cost.nic_bytes;
    }
    REQUIRE(per_second(sum.hbm_bytes, chunk.end()) <= hbm);
    REQUIRE(per_second(sum.nvlink_bytes, chunk.end()) <=
            reached_nvlink(cluster, calibration).count());
    REQUIRE(per_second(sum.nic_bytes, chunk.end()) <= reached_nic(cluster, calibration).count());
  }
}

TEST_CASE("every legal order launches the same kernels", "[timeline]") {
  Scenario s = shipped(either_scenario());
  Gpu by_default(s);
  for (int i = 0; i < kPhases; ++i) {
    s.plan.overlap.order[static_cast<std::size_t>(i)] = static_cast<Phase>(i);
  }
  Gpu in_line(s);
  const auto kernels = [](Gpu& gpu, const ChunkShape& shape) {
    std::vector<std::pair<Phase, Duration>> out;
    for (const Launch& launch : gpu.chunks.launches(shape)) {
      out.emplace_back(launch.phase, gpu.alone(launch.kernel).time);
    }
    std::sort(out.begin(), out.end());
    return out;
  };
  for (const ChunkShape& shape : shapes_of(s)) {
    REQUIRE(kernels(by_default, shape) == kernels(in_line, shape));
  }
}

TEST_CASE("more communication SMs never make a transfer slower", "[timeline]") {
  const std::string name = either_scenario();
  std::vector<Duration> before;
  for (int sms = 1; sms <= 64; ++sms) {
    Gpu gpu(shipped(name, {fmt::format("plan.communication_sms={}", sms)}));
    std::vector<Duration> now;
    for (const Launch& launch : gpu.chunks.launches(moe_pair(1))) {
      if (gpu.kernel(launch).transfer) now.push_back(gpu.alone(launch.kernel).time);
    }
    REQUIRE(now.size() == 4);  // dispatch and combine, forward and backward
    for (std::size_t i = 0; i < before.size(); ++i) REQUIRE(now[i] <= before[i]);
    before = now;
  }
}

TEST_CASE("products leave the communication SMs free where an exchange may run beside them",
          "[timeline]") {
  const bool overlap = GENERATE(true, false);
  const std::string name = either_scenario();
  Gpu gpu(overlap ? shipped(name) : shipped(name, kNothingBeside));
  const int all = gpu.scenario.cluster.gpu.sm_count;
  for (const ChunkShape& shape : shapes_of(gpu.scenario)) {
    for (const Launch& launch : gpu.chunks.launches(shape)) {
      const GpuKernel& kernel = gpu.kernel(launch);
      if (!is_product(kernel.operation)) continue;
      const bool weight =
          launch.phase == Phase::kMlpWeight || launch.phase == Phase::kAttentionWeight;
      const bool beside =
          shape.kind == ChunkKind::kOverlapped || (shape.kind == ChunkKind::kBackward && weight);
      REQUIRE(kernel.grid == (overlap && beside ? all - gpu.scenario.plan.communication_sms : all));
    }
  }
}

TEST_CASE("on fewer SMs no product gets faster", "[timeline]") {
  // But for the measured stall of products of a single wave, which a second wave ends.
  Scenario s = shipped(either_scenario());
  without_one_wave_stall(s);
  Gpu gpu(s);
  const TrainingMachine machine = in_training(s.cluster.gpu, s.calibration);
  for (const Launch& launch : gpu.chunks.launches(moe_pair(1))) {
    const Operation product = machine.kernel_of(gpu.kernel(launch).operation);
    if (!is_product(product)) continue;
    Duration before;
    for (int sms = machine.gpu.sm_count; sms > 0; --sms) {
      const Duration now = kernel_cost(product, machine.gpu, machine.calibration, sms).time;
      REQUIRE(now >= before);
      before = now;
    }
  }
}
