#include "sim/cluster/gpu_conditions.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sim/gpu/stretch.hpp"

namespace pipecast {

namespace {

/// GPUs of the group whose notify kernels gave communication.peers_late_us: the published trace is
/// of 64 expert-parallel ranks.
constexpr int kMeasuredGroup = 64;
/// No GPU is drawn faster or slower than this.
constexpr double kLeastSpeed = 0.1;

/// Mean of the greatest of n exponential numbers of mean 1.
double harmonic(int n) {
  double sum = 0;
  for (int i = 1; i <= n; ++i) sum += 1.0 / i;
  return sum;
}

}  // namespace

double expected_greatest_normal(int n) {
  // Of x n phi(x) Phi(x)^(n-1) by the midpoint rule.
  constexpr int kSteps = 2000;
  constexpr double kFarOut = 10;
  constexpr double kWidth = 2 * kFarOut / kSteps;
  const double scale = 1 / std::sqrt(2 * std::acos(-1.0));
  double mean = 0;
  for (int i = 0; i < kSteps; ++i) {
    const double x = -kFarOut + (i + 0.5) * kWidth;
    const double density = scale * std::exp(-x * x / 2);
    const double below = std::erfc(-x / std::sqrt(2.0)) / 2;
    mean += x * n * density * std::pow(below, n - 1) * kWidth;
  }
  return mean;
}

GpuConditions::GpuConditions(const Scenario& scenario, const PlanSpec& plan_spec,
                             const StepPlan& plan, const StepConditions& conditions, int column)
    : plan_(plan),
      folded_(conditions.mode == SimulationMode::kFolded),
      group_(folded_ ? 1 : plan_spec.ep),
      column_(column),
      seed_(conditions.seed),
      jitter_(scenario.variation.jitter) {
  if (conditions.router != nullptr && !folded_ && plan_spec.ep > 1) {
    loads_.emplace(scenario, plan_spec, plan, *conditions.router, column);
  }
  const VariationSpec& variation = scenario.variation;
  if (plan_spec.ep > 1) {
    mean_delay_ =
        duration_from_seconds(scenario.calibration.communication.peers_late_us.value * 1e-6 *
                              variation.late_arrivals / (harmonic(kMeasuredGroup) - 1));
    if (folded_) mean_delay_ = scaled(mean_delay_, harmonic(plan_spec.ep));
  }
  set_speeds(variation, plan.ranks(), scenario.data_parallel(), conditions, column);
  random_ = !folded_ && (jitter_ > 0 || mean_delay_ > Duration());
}

void GpuConditions::set_speeds(const VariationSpec& variation, int ranks, int data_parallel,
                               const StepConditions& conditions, int column) {
  const int gpus = ranks * data_parallel;
  slowness_.assign(static_cast<std::size_t>(ranks * group_), 1);
  if (folded_) {
    const double slowest =
        1 / std::max(kLeastSpeed, 1 - variation.speed_deviation * expected_greatest_normal(gpus));
    const double straggler = variation.stragglers > 0 ? variation.straggler_slowness : 1;
    const double late =
        std::exp(jitter_ * expected_greatest_normal(data_parallel) - jitter_ * jitter_ / 2);
    std::fill(slowness_.begin(), slowness_.end(), slowest * straggler * late);
    return;
  }
  std::vector<int> order(static_cast<std::size_t>(gpus));
  std::iota(order.begin(), order.end(), 0);
  Random draw(conditions.seed, "stragglers");
  const int stragglers = std::min(variation.stragglers, gpus);
  for (int i = 0; i < stragglers; ++i) {
    const auto other =
        static_cast<std::size_t>(i) + draw.below(static_cast<std::uint64_t>(gpus - i));
    std::swap(order[static_cast<std::size_t>(i)], order[other]);
  }
  std::vector<char> slow(order.size());
  for (int i = 0; i < stragglers; ++i) {
    slow[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = 1;
  }
  for (int rank = 0; rank < ranks; ++rank) {
    for (int index = 0; index < group_; ++index) {
      const int gpu = rank * data_parallel + column * group_ + index;
      double& slowness = slowness_[static_cast<std::size_t>(rank * group_ + index)];
      if (variation.speed_deviation > 0) {
        Random speed(conditions.seed, "speed", static_cast<std::uint64_t>(gpu));
        slowness /= std::max(kLeastSpeed, 1 + variation.speed_deviation * speed.normal());
      }
      if (slow[static_cast<std::size_t>(gpu)] != 0) slowness *= variation.straggler_slowness;
    }
  }
}

ChunkConditions GpuConditions::chunk(int rank, int index, int step, TaskLoad* loads) const {
  const auto gpu = static_cast<std::size_t>(rank * group_ + index);
  ChunkConditions out{.slowness = slowness_[gpu], .jitter = folded_ ? 0 : jitter_};
  const auto& steps = plan_.steps[static_cast<std::size_t>(rank)];
  if (loads_) {
    TaskLoad* load = loads;
    for (const PlannedPass& pass : steps[static_cast<std::size_t>(step)].passes) {
      if (pass.stage < 0) continue;
      for (const int layer : plan_.moe_layer[static_cast<std::size_t>(pass.stage)]) {
        *load++ = layer < 0 ? TaskLoad() : loads_->gpu(layer, pass.microbatch, index);
      }
    }
    out.loads = loads;
  }
  if (random_) {
    const std::uint64_t chunk =
        ((static_cast<std::uint64_t>(column_) * static_cast<std::uint64_t>(plan_.ranks()) *
              static_cast<std::uint64_t>(group_) +
          gpu)
         << 32) |
        static_cast<std::uint32_t>(step);
    out.random = Random(seed_, "chunk", chunk);
  }
  return out;
}

Duration GpuConditions::delay(Random& random) const {
  if (mean_delay_ == Duration() || folded_) return mean_delay_;
  return scaled(mean_delay_, -std::log(1 - random.uniform()));
}

GpuConditions::Exchange GpuConditions::exchange(const Task& task, const PlannedStep& step) const {
  const std::size_t kind = exchange_kind(task.phase);
  double stretch = plan_.busiest.stretch[kind];
  double nic = plan_.busiest.nic;
  if (loads_) {
    auto position = static_cast<std::size_t>(task.slot);
    const PlannedPass* pass = &step.passes[0];
    const auto& first = plan_.moe_layer[static_cast<std::size_t>(pass->stage)];
    if (position >= first.size()) {
      position -= first.size();
      pass = &step.passes[1];
    }
    const int layer = plan_.moe_layer[static_cast<std::size_t>(pass->stage)][position];
    const GroupExchange& load = loads_->exchange(layer, pass->microbatch);
    stretch = load.stretch[kind];
    nic = load.nic;
  }
  const Duration time = scaled(task.transfer, stretch);
  const double busy = static_cast<double>(plan_.exchanges[kind].nic.count()) * nic;
  return {time, std::min(1.0, busy / static_cast<double>(time.count()))};
}

}  // namespace pipecast
