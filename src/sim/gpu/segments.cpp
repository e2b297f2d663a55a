#include "sim/gpu/segments.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "model/ops/gemm_tile.hpp"

namespace pipecast {

namespace {

// Samples lie half a block of rows per expert above their step: between multiples of a block, where
// rounding up counts as it does on average.
constexpr std::int64_t kHalfBlock = kPaddedRows / 2;

constexpr auto kOnCommunication = static_cast<std::size_t>(Stream::kCommunication);

bool is_communication(const Operation& operation, const PlanSpec& plan) {
  return operation.stream == Stream::kCommunication && !is_cast_of_engine(operation, plan);
}

Beside beside_of(const Operation& operation) {
  if (operation.op == "ep_dispatch") return Beside::kDispatch;
  if (operation.op == "ep_combine") return Beside::kCombine;
  if (operation.op == "ep_cached_notify") return Beside::kWaiting;
  if (operation.op == "ep_notify") return Beside::kNotify;
  return Beside::kNothing;
}

std::int64_t share_of(std::int64_t whole, double share) {
  return std::llround(static_cast<double>(whole) * share);
}

bool same_times(const TaskTimes& a, const TaskTimes& b) {
  return a.time == b.time && a.beside_phase == b.beside_phase;
}

}  // namespace

Segments::Segments(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing)
    : kernels_(scenario, plan, routing),
      gap_(duration_from_seconds(scenario.calibration.latency.launch_gap_us.value * 1e-6)) {
  neighbour_.fill(-1);
  std::set<LayerKind> kinds;
  for (const auto& stage : plan.pipeline_layout) kinds.insert(stage.begin(), stage.end());
  for (const LayerKind kind : kinds) meet(kind, plan);
}

/// What layers with an exchange run beside each other.
void Segments::meet(LayerKind kind, const PlanSpec& plan) {
  if (kind != LayerKind::kMoe && kind != LayerKind::kMtp) return;
  const LayerOperations& layer = kernels_.operations(kind);
  for (std::size_t p = 0; p < kPhases; ++p) {
    const auto phase = static_cast<Phase>(p);
    const bool split = splits_sms(ChunkKind::kOverlapped, phase, plan);
    const bool known = !computing_[p].empty();
    for (const Operation& operation : layer.at(phase)) {
      const std::int32_t kernel = kernels_.table().add(operation, split);
      const Beside beside = beside_of(operation);
      if (beside != Beside::kNothing) neighbour_[static_cast<std::size_t>(beside)] = kernel;
      if (known || operation.stream == Stream::kCommunication) continue;
      computing_[p].push_back({kernel, time_beside(kernel, Beside::kNothing)});
    }
  }
}

Duration Segments::time_beside(std::int32_t kernel, Beside beside) {
  Running running;
  running.kernel[0] = kernel;
  running.kernel[kOnCommunication] = neighbour_[static_cast<std::size_t>(beside)];
  return *share_gpu(running, kernels_.table()).time[0];
}

/// Experts' gradients that take turns on two streams run one after the other, launched in time.
Segment Segments::computation(const std::vector<Launch>& launches, std::size_t first,
                              std::size_t last) {
  Segment out;
  bool with_side = false;
  for (std::size_t i = first; i < last; ++i) {
    const std::int32_t kernel = launches[i].kernel;
    for (std::size_t b = 0; b < kBesides; ++b) {
      out.times.time[b] += time_beside(kernel, static_cast<Beside>(b));
    }
    KernelTable& table = kernels_.table();
    const GpuKernel& what = table.at(kernel);
    const int sms = what.use == SmUse::kGrid ? what.grid : table.scenario().cluster.gpu.sm_count;
    add_share(out.work, {what.operation.op, table.cost(kernel, sms).limited_by,
                         time_beside(kernel, Beside::kNothing)});
    const bool side = launches[i].stream == Stream::kSide;
    const bool queued = side || (with_side && launches[i].after[1] < 0);
    with_side = queued;
    if (queued) continue;
    for (Duration& time : out.times.time) time += gap_;
    add_share(out.work, {"launch_gap", "latency", gap_});
  }
  return out;
}

/// A cast meets a kernel of the phase half done, the longer the likelier. Beside a product it has
/// the SMs that are left over, and all of them afterwards; other kernels it waits for.
Duration Segments::cast_beside(std::int32_t kernel, Phase phase) {
  KernelTable& table = kernels_.table();
  const int all = table.scenario().cluster.gpu.sm_count;
  const auto alone = static_cast<double>(table.cost(kernel, all).time.count());
  double weights = 0;
  double sum = 0;
  for (const Met& met : computing_[static_cast<std::size_t>(phase)]) {
    const GpuKernel& what = table.at(met.kernel);
    const auto whole = static_cast<double>(met.time.count());
    const int left = what.use == SmUse::kGrid ? all - what.grid : 0;
    double time = whole / 2 + alone;
    if (left > 0) {
      const auto slow = static_cast<double>(table.cost(kernel, left).time.count());
      time = slow <= whole / 2 ? slow : whole / 2 + (1 - whole / 2 / slow) * alone;
    }
    sum += whole * time;
    weights += whole;
  }
  return weights > 0 ? duration_from_picoseconds(sum / weights) : table.cost(kernel, all).time;
}

/// What goes before a transfer.
Segment Segments::exchange(const std::vector<Launch>& launches, std::size_t first,
                           std::size_t last) {
  Segment out{.communication = true};
  KernelTable& table = kernels_.table();
  const int all = table.scenario().cluster.gpu.sm_count;
  for (std::size_t i = first; i < last; ++i) {
    const std::int32_t kernel = launches[i].kernel;
    const GpuKernel& what = table.at(kernel);
    const bool free = what.use == SmUse::kFree;
    const GpuKernelCost alone = table.cost(kernel, free ? all : what.grid);
    out.times.time[0] += alone.time + gap_;
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      out.times.beside_phase[phase] +=
          (free ? cast_beside(kernel, static_cast<Phase>(phase)) : alone.time) + gap_;
    }
    add_share(out.work, {what.operation.op, alone.limited_by, alone.time});
    add_share(out.work, {"launch_gap", "latency", gap_});
    out.beside = std::max(out.beside, beside_of(what.operation));
  }
  return out;
}

/// A transfer has its SMs to itself in the gaps between the phase's kernels.
Duration Segments::transfer_beside(const GpuKernelCost& cost, Phase phase) {
  double busy = 0;
  double whole = 0;
  for (const Met& met : computing_[static_cast<std::size_t>(phase)]) {
    const Duration time = met.time;
    const bool side = kernels_.table().at(met.kernel).operation.stream == Stream::kSide;
    busy += static_cast<double>(time.count());
    whole += static_cast<double>((side ? time : time + gap_).count());
  }
  const double share = whole > 0 ? busy / whole : 1;
  const double rate = share / static_cast<double>(cost.beside.count()) +
                      (1 - share) / static_cast<double>(cost.time.count());
  return duration_from_picoseconds(1 / rate);
}

Segment Segments::transfer(const Launch& launch) {
  KernelTable& table = kernels_.table();
  const GpuKernel& what = table.at(launch.kernel);
  const GpuKernelCost cost = table.cost(launch.kernel, what.grid);
  Segment out{.communication = true,
              .collective = true,
              .beside = beside_of(what.operation),
              .nic_bytes = cost.nic_bytes,
              .nvlink_bytes = cost.nvlink_bytes};
  out.times.time[0] = cost.time + gap_;
  for (std::size_t phase = 0; phase < kPhases; ++phase) {
    out.times.beside_phase[phase] = transfer_beside(cost, static_cast<Phase>(phase)) + gap_;
  }
  add_share(out.work, {what.operation.op, cost.limited_by, cost.time});
  add_share(out.work, {"launch_gap", "latency", gap_});
  return out;
}

std::vector<Segment> Segments::sums(const std::vector<Launch>& launches) {
  std::vector<Segment> out;
  const KernelTable& table = kernels_.table();
  std::size_t first = 0;
  while (first < launches.size()) {
    const GpuKernel& what = table.at(launches[first].kernel);
    if (what.transfer) {
      out.push_back(transfer(launches[first]));
      ++first;
      continue;
    }
    const bool communication = is_communication(what.operation, table.plan());
    std::size_t last = first + 1;
    while (last < launches.size()) {
      const GpuKernel& next = table.at(launches[last].kernel);
      if (next.transfer || is_communication(next.operation, table.plan()) != communication) break;
      ++last;
    }
    out.push_back(communication ? exchange(launches, first, last)
                                : computation(launches, first, last));
    first = last;
  }
  return out;
}

const std::vector<Segment>& Segments::balanced(LayerKind kind, Phase phase, bool split) {
  const Key key{kind, phase, split};
  auto known = balanced_.find(key);
  if (known == balanced_.end()) {
    known = balanced_.emplace(key, sums(kernels_.launches(kind, phase, split, kernels_.balanced())))
                .first;
  }
  return known->second;
}

const std::vector<Segment>& Segments::at(LayerKind kind, Phase phase, bool split,
                                         const LayerLoad& load) {
  const LayerLoad& even = kernels_.balanced();
  if (load.routed_tokens == even.routed_tokens && load.received_tokens == even.received_tokens) {
    return balanced(kind, phase, split);
  }
  const auto [known, fresh] =
      at_load_.try_emplace({kind, phase, split, load.routed_tokens, load.received_tokens});
  if (fresh) known->second = sums(kernels_.launches(kind, phase, split, load));
  return known->second;
}

double Segments::rows_share(double routed_tokens) const {
  const LayerLoad& even = kernels_.balanced();
  return (routed_tokens - static_cast<double>(kHalfBlock * even.local_experts)) /
         static_cast<double>(std::max<std::int64_t>(even.routed_tokens, 1));
}

const std::vector<std::shared_ptr<const LoadCurve>>& Segments::curves(LayerKind kind, Phase phase,
                                                                      bool split) {
  const auto [known, fresh] = curves_.try_emplace(Key{kind, phase, split});
  std::vector<std::shared_ptr<const LoadCurve>>& out = known->second;
  if (!fresh) return out;
  const LayerLoad& even = kernels_.balanced();
  const auto sampled = [&, k = kind, p = phase, s = split](double rows, double received) {
    LayerLoad load = even;
    load.routed_tokens = share_of(even.routed_tokens, rows) + kHalfBlock * even.local_experts;
    load.received_tokens = std::max(share_of(even.received_tokens, received), std::int64_t{1});
    return sums(kernels_.launches(k, p, s, load));
  };
  const std::vector<Segment>& sums_of_balanced = balanced(kind, phase, split);
  out.resize(sums_of_balanced.size());
  const std::vector<Segment> more = sampled(2, 2);
  bool constant = true;
  for (std::size_t i = 0; i < more.size(); ++i) {
    constant = constant && same_times(more[i].times, sums_of_balanced[i].times);
  }
  if (constant) return out;
  std::vector<std::vector<TaskTimes>> samples(out.size());
  for (int i = 0; i <= LoadCurve::kSteps * LoadCurve::kMostLoads; ++i) {
    const double share = static_cast<double>(i) / LoadCurve::kSteps;
    const std::vector<Segment> here = sampled(share, share);
    for (std::size_t j = 0; j < here.size(); ++j) samples[j].push_back(here[j].times);
  }
  const std::vector<Segment> more_received = sampled(1, 2);
  for (std::size_t j = 0; j < out.size(); ++j) {
    const auto differs = [&](const TaskTimes& t) {
      return !same_times(t, sums_of_balanced[j].times);
    };
    if (std::none_of(samples[j].begin(), samples[j].end(), differs)) continue;
    out[j] = std::make_shared<const LoadCurve>(std::move(samples[j]), more_received[j].times);
  }
  return out;
}

}  // namespace pipecast
