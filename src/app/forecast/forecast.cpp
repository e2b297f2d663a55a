#include "app/forecast/forecast.hpp"

#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <map>

#include "app/forecast/assumptions.hpp"
#include "app/forecast/provenance.hpp"
#include "app/tables/routing_trace.hpp"
#include "model/arithmetic/flops.hpp"
#include "model/schedules/plan_schedule.hpp"
#include "sim/cluster/stage_costs.hpp"
#include "sim/network/fabric_slowdown.hpp"

namespace pipecast {

namespace {

/// Calls function(i) for every i below `count` on several threads. Of failures the first by
/// position is thrown: which one a thread met first is chance, and the message must not be.
void for_each(std::size_t count, int threads, const std::function<void(std::size_t)>& function) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(std::max(1, threads)));
  std::vector<std::exception_ptr> failures(count);
  tbb::parallel_for(
      tbb::blocked_range<std::size_t>(0, count, 1),
      [&](const tbb::blocked_range<std::size_t>& range) {
        for (std::size_t i = range.begin(); i < range.end(); ++i) {
          try {
            function(i);
          } catch (...) {
            failures[i] = std::current_exception();
          }
        }
      },
      tbb::simple_partitioner());
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

ForEach on_threads(int threads) {
  return [threads](std::size_t count, const std::function<void(std::size_t)>& function) {
    for_each(count, threads, function);
  };
}

constexpr double kSecondsPerHour = 3600;
constexpr double kHoursPerDay = 24;
constexpr double kTrillion = 1e12;

int microbatches_of(const Scenario& scenario, int global_batch) {
  return global_batch / (scenario.data_parallel() * scenario.plan.micro_batch_size);
}

double step_seconds(const StepForecast& step) { return to_seconds(step.times.time); }

double gpu_hours_per_token(const Scenario& scenario, const StepForecast& step) {
  return step_seconds(step) * scenario.cluster.gpus() / kSecondsPerHour /
         static_cast<double>(step.tokens.count());
}

Throughput throughput_of(const Scenario& scenario, const StepForecast& step) {
  Throughput out;
  const std::int64_t seq_length = scenario.recipe.seq_length;
  const auto flops = [&](AttentionCount count) {
    return step.plan.trains ? training_flops_per_token(scenario.model, seq_length, count)
                            : forward_flops_per_token(scenario.model, seq_length, count);
  };
  out.flop_per_token_causal = flops(AttentionCount::kCausal);
  out.flop_per_token_noncausal = flops(AttentionCount::kFull);
  const double tokens_per_gpu_second =
      static_cast<double>(step.tokens.count()) / step_seconds(step) / scenario.cluster.gpus();
  const GpuSpec& gpu = scenario.cluster.gpu;
  const double peak = gpu.tensor_peak(Precision::kBf16, gpu.sm_count).count();
  const auto rate = [&](Flops per_token) { return per_token.count() * tokens_per_gpu_second; };
  out.tflops_per_gpu_causal = rate(out.flop_per_token_causal) / 1e12;
  out.tflops_per_gpu_noncausal = rate(out.flop_per_token_noncausal) / 1e12;
  out.mfu_causal = rate(out.flop_per_token_causal) / peak;
  out.mfu_noncausal = rate(out.flop_per_token_noncausal) / peak;
  return out;
}

/// A variation of the scenario whose step is simulated beside the main one, in folded mode.
struct Variation {
  Scenario scenario;
  const PhaseSpec* phase;  ///< of the original scenario
  int global_batch;
  bool checks_memory = false;
  std::optional<StepRouting> routing{};  ///< if it differs from the original's
  double step_s = 0;
  double gpu_hours_per_token = 0;
  std::uint64_t events = 0;
};

/// Routing of every phase, by its expert-parallel group and micro-batch.
class PhaseRouting {
 public:
  PhaseRouting(const Scenario& scenario, std::uint64_t seed) {
    for (const PhaseSpec& phase : scenario.recipe.phases) {
      if (!phase.tokens || known_.count(key(phase.plan)) > 0) continue;
      known_[key(phase.plan)] = step_routing(scenario, phase.plan, seed);
    }
  }
  [[nodiscard]] const StepRouting& of(const PlanSpec& plan) const { return known_.at(key(plan)); }

 private:
  static std::pair<int, int> key(const PlanSpec& plan) { return {plan.ep, plan.micro_batch_size}; }
  std::map<std::pair<int, int>, StepRouting> known_;
};

void simulate(Variation& v, const StepRouting& routing) {
  const PlanSpec& plan = v.phase->plan;
  const StepForecast step = forecast_step(v.scenario, plan, v.global_batch, routing,
                                          SimulationMode::kFolded, 0, 1, nullptr, false);
  if (v.checks_memory) {
    const StepMemory memory = step_memory(v.scenario, plan, step, routing, SimulationMode::kFolded);
    require_memory(memory, v.scenario, plan, step);
  }
  v.step_s = step_seconds(step);
  v.gpu_hours_per_token = gpu_hours_per_token(v.scenario, step);
  v.events = step.times.events;
}

/// Runs the variations on several threads; each result depends on its own input only.
void simulate(std::vector<Variation>& variations, const PhaseRouting& routing,
              const ForecastOptions& options) {
  std::atomic<std::size_t> done{0};
  for_each(variations.size(), options.threads, [&](std::size_t i) {
    Variation& v = variations[i];
    simulate(v, v.routing ? *v.routing : routing.of(v.phase->plan));
    if (options.progress) {
      options.progress("phases and assumptions",
                       static_cast<double>(++done) / static_cast<double>(variations.size()));
    }
  });
}

PhaseForecast published_phase(const Scenario& scenario, const PhaseSpec& phase) {
  PhaseForecast out{.name = phase.name, .gpu_hours = *phase.gpu_hours};
  out.days = out.gpu_hours / scenario.cluster.gpus() / kHoursPerDay;
  out.cost = scenario.cost_per_gpu_hour * out.gpu_hours;
  return out;
}

PhaseForecast simulated_phase(const Scenario& scenario, const PhaseSpec& phase,
                              double hours_per_token) {
  PhaseForecast out{.name = phase.name, .simulated = true, .tokens = phase.tokens};
  out.gpu_hours = hours_per_token * static_cast<double>(phase.tokens->count());
  out.days = out.gpu_hours / scenario.cluster.gpus() / kHoursPerDay;
  out.cost = scenario.cost_per_gpu_hour * out.gpu_hours;
  return out;
}

/// GPU hours per token of every simulated phase, means over its batch sizes with equal tokens at
/// each.
void forecast_phases(const Scenario& scenario, const PhaseSpec& main, const PhaseRouting& routing,
                     const ForecastOptions& options, Forecast& out) {
  const double main_hours = gpu_hours_per_token(scenario, out.step);
  std::vector<Variation> others;
  for (const PhaseSpec& phase : scenario.recipe.phases) {
    if (!phase.tokens) continue;
    const std::vector<int> telling = telling_batch_sizes(scenario, phase);
    for (const int size : batch_sizes(*phase.global_batch_size)) {
      if (&phase == &main && size == main.global_batch_size->to) continue;
      const bool tells = std::find(telling.begin(), telling.end(), size) != telling.end();
      others.push_back(
          {.scenario = scenario, .phase = &phase, .global_batch = size, .checks_memory = tells});
    }
  }
  simulate(others, routing, options);
  for (const Variation& v : others) out.events += v.events;
  out.total = {.name = "total", .simulated = true, .tokens = Tokens(0)};
  for (const PhaseSpec& phase : scenario.recipe.phases) {
    if (phase.tokens) {
      double sum = &phase == &main ? main_hours : 0;
      int sizes = &phase == &main ? 1 : 0;
      for (const Variation& v : others) {
        if (v.phase != &phase) continue;
        sum += v.gpu_hours_per_token;
        ++sizes;
      }
      out.phases.push_back(simulated_phase(scenario, phase, sum / sizes));
      *out.total.tokens += *phase.tokens;
    } else {
      out.phases.push_back(published_phase(scenario, phase));
    }
    out.total.gpu_hours += out.phases.back().gpu_hours;
    out.total.days += out.phases.back().days;
    out.total.cost += out.phases.back().cost;
  }
}

Duration mean_over_ranks(const StepTimes& times, TimeCategory category) {
  Duration sum;
  for (const RankTimes& rank : times.ranks) {
    sum += rank.breakdown[static_cast<std::size_t>(category)];
  }
  return Duration(sum.count() / static_cast<std::int64_t>(times.ranks.size()));
}

/// Mean over ranks.
Duration optimizer_collectives(const StepPlan& plan) {
  Duration sum;
  for (const OptimizerPlan& optimizer : plan.optimizer) {
    sum += optimizer.reduce_scatter + plan.norm_all_reduce + optimizer.all_gather;
  }
  return Duration(sum.count() / static_cast<std::int64_t>(plan.optimizer.size()));
}

/// What uneven routing and unequal GPUs cost: the step with balanced routing in the forecast's own
/// mode, and with equal GPUs besides, for which one replica stands exactly for all.
void forecast_losses(const Scenario& scenario, const PhaseSpec& main, const PhaseRouting& routing,
                     const ForecastOptions& options, Forecast& out) {
  StepRouting balanced = routing.of(main.plan);
  balanced.router = nullptr;
  Scenario equal_gpus = scenario;
  equal_gpus.variation = {.late_arrivals = 0};
  const auto simulated = [&](const Scenario& varied, SimulationMode mode) {
    const StepForecast step = forecast_step(varied, main.plan, main.global_batch_size->to, balanced,
                                            mode, options.seed, options.threads, nullptr, false);
    out.events += step.times.events;
    return step_seconds(step);
  };
  const double step_s = step_seconds(out.step);
  const double evenly_s =
      routing.of(main.plan).router == nullptr ? step_s : simulated(scenario, options.mode);
  out.lost.routing_imbalance_s = step_s - evenly_s;
  out.lost.variation_s = evenly_s - simulated(equal_gpus, SimulationMode::kFolded);
  out.lost.pipeline_transfers_s =
      to_seconds(mean_over_ranks(out.step.times, TimeCategory::kCommunicationExposed));
  out.lost.optimizer_collectives_s = to_seconds(optimizer_collectives(out.step.plan));
}

/// Moves one assumption at a time to the ends of its range; independent deviations add in squares.
void forecast_interval(const Scenario& scenario, const PhaseSpec& main, const PhaseRouting& routing,
                       const ForecastOptions& options, Forecast& out) {
  const int batch = main.global_batch_size->to;
  std::vector<Variation> variations;
  variations.push_back(
      {scenario, &main, batch});  // the folded default, which the others are compared with
  Scenario moved = scenario;
  for (const NamedConstant& named : ranges_of(moved)) {
    const Constant original = *named.constant;
    const bool of_routing = named.name.rfind("routing.", 0) == 0;
    for (const double end : {original.low, original.high}) {
      if (end == original.value) continue;
      named.constant->value = end;
      variations.push_back({moved, &main, batch});
      if (of_routing) variations.back().routing = step_routing(moved, main.plan, options.seed);
      named.constant->value = original.value;
    }
  }
  const std::size_t first_resource = variations.size();
  constexpr double kPercent = 0.01;
  std::vector<double> improvements;
  for (const Resource& resource : resources()) {
    variations.push_back({scenario, &main, batch});
    improvements.push_back(resource.improve(variations.back().scenario.cluster, 1 + kPercent) - 1);
  }
  simulate(variations, routing, options);
  for (const Variation& v : variations) out.events += v.events;

  const double base = variations.front().step_s;
  const auto change = [&](std::size_t i) { return variations[i].step_s / base - 1; };
  double faster = 0;
  double slower = 0;
  for (std::size_t i = 1; i < first_resource; ++i) {
    (change(i) < 0 ? faster : slower) += change(i) * change(i);
  }
  const double low = 1 - std::sqrt(faster);
  const double high = 1 + std::sqrt(slower);
  const auto interval = [&](double expected, double fixed) {
    return Interval{fixed + (expected - fixed) * low, expected, fixed + (expected - fixed) * high};
  };
  double published_cost = 0;
  for (const PhaseForecast& phase : out.phases)
    published_cost += phase.simulated ? 0 : phase.cost.count();
  const double step_s = step_seconds(out.step);
  out.step_time_s = interval(step_s, 0);
  out.gpu_hours_per_trillion = interval(out.gpu_hours_per_trillion_tokens, 0);
  out.cost_usd = interval(out.total.cost.count(), published_cost);
  for (std::size_t i = 0; i < resources().size(); ++i) {
    out.sensitivities.push_back(
        {resources()[i].name, change(first_resource + i) / improvements[i]});
  }
}

/// Of all expert-parallel groups, one on every pipeline rank after the other.
std::vector<std::vector<int>> nodes_of_groups(const ClusterSpec& cluster, const PlanSpec& plan) {
  const int data_parallel = cluster.gpus() / (plan.tp * plan.cp * plan.pp);
  const Placement placement(cluster, data_parallel);
  std::vector<std::vector<int>> out;
  for (int rank = 0; rank < plan.pp; ++rank) {
    for (int first = 0; first < data_parallel; first += plan.ep) {
      auto& nodes = out.emplace_back();
      for (int replica = first; replica < first + plan.ep; replica += cluster.gpus_per_node) {
        nodes.push_back(placement.node(rank, replica));
      }
    }
  }
  return out;
}

}  // namespace

std::vector<int> batch_sizes(const BatchRamp& ramp) {
  std::vector<int> sizes;
  for (int size = ramp.from; size < ramp.to; size += ramp.increment) sizes.push_back(size);
  sizes.push_back(ramp.to);
  return sizes;
}

const PhaseSpec& main_phase(const RecipeSpec& recipe) {
  const PhaseSpec* best = nullptr;
  for (const PhaseSpec& phase : recipe.phases) {
    if (phase.tokens && (best == nullptr || *phase.tokens > *best->tokens)) best = &phase;
  }
  require(best != nullptr,
          "recipe.phases: no phase has tokens and a batch size, so there is no step to simulate");
  return *best;
}

std::shared_ptr<const Router> make_router(const Scenario& scenario, const PlanSpec& plan,
                                          std::uint64_t seed) {
  const RoutingGroup group{.gpus = plan.ep,
                           .gpus_per_node = scenario.cluster.gpus_per_node,
                           .tokens = plan.micro_batch_size * scenario.recipe.seq_length};
  std::optional<RecordedLoads> recorded;
  if (scenario.routing.distribution == "trace") {
    recorded = read_routing_trace(scenario.routing.trace,
                                  static_cast<int>(scenario.model.n_routed_experts));
  }
  return std::make_shared<const Router>(scenario.model, scenario.routing, group, seed,
                                        recorded ? &*recorded : nullptr);
}

StepRouting step_routing(const Scenario& scenario, const PlanSpec& plan, std::uint64_t seed) {
  StepRouting out;
  out.even = balanced_routing(scenario.model, plan.ep, scenario.cluster.gpus_per_node);
  if (plan.ep > scenario.cluster.gpus_per_node) {
    const std::vector<double> slowdowns =
        fabric_slowdown(scenario.cluster, nodes_of_groups(scenario.cluster, plan));
    out.fabric_slowdown = *std::max_element(slowdowns.begin(), slowdowns.end());
  }
  if (scenario.routing.distribution == "balanced" || plan.ep == 1) return out;
  out.router = make_router(scenario, plan, seed);
  return out;
}

std::vector<int> telling_batch_sizes(const Scenario& scenario, const PhaseSpec& phase) {
  const std::vector<int> all = batch_sizes(*phase.global_batch_size);
  const PlanSpec& plan = phase.plan;
  const int replicas = scenario.cluster.gpus() / (plan.tp * plan.cp * plan.pp);
  const auto schedule_of = [&](int size) {
    return choose_schedule(plan, size / (replicas * plan.micro_batch_size)).name;
  };
  std::vector<int> out{all.front()};
  if (all.size() > 1 && !plan.fallback_schedule.empty()) {
    std::string last = schedule_of(all.front());
    for (std::size_t i = 1; i < all.size(); ++i) {
      std::string name = schedule_of(all[i]);
      if (name == last) continue;
      out.push_back(all[i - 1]);
      out.push_back(all[i]);
      last = std::move(name);
    }
  }
  out.push_back(all.back());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

RowShares busiest_rows(const Scenario& scenario, const PlanSpec& plan, const StepForecast& step,
                       const StepRouting& routing, SimulationMode mode, int threads) {
  if (routing.router == nullptr) return {};
  // Of a rank's live chunks about half: with all layers of a rank together enough for the spread of
  // their sum.
  constexpr int kMicrobatches = 8;
  const int data_parallel = scenario.cluster.gpus() / (plan.tp * plan.cp * plan.pp);
  const int groups = mode == SimulationMode::kFull ? data_parallel / plan.ep : 1;
  return row_shares(*routing.router, step.plan, step.passes, groups,
                    std::min(step.plan.microbatches, kMicrobatches), on_threads(threads));
}

StepMemory step_memory(const Scenario& scenario, const PlanSpec& plan, const StepForecast& step,
                       const StepRouting& routing, SimulationMode mode, int threads) {
  const RowShares rows = busiest_rows(scenario, plan, step, routing, mode, threads);
  return {scenario, plan, step.passes, step.plan, rows, step.times.spans};
}

void require_memory(const StepMemory& memory, const Scenario& scenario, const PlanSpec& plan,
                    const StepForecast& step) {
  const int fullest = memory.fullest();
  const StepMemory::Peak& peak = memory.peak(fullest);
  const Bytes capacity = memory_capacity(scenario.cluster.gpu, plan);
  const Bytes needed = peak.totals.total();
  if (needed <= capacity) return;
  const auto gigabytes = [](Bytes bytes) { return static_cast<double>(bytes.count()) / 1e9; };
  std::string parts;
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    const auto category = static_cast<MemoryCategory>(c);
    parts += fmt::format("{}{} {:.1f}", parts.empty() ? "" : ", ", name_of(category),
                         gigabytes(peak.totals.of(category)));
  }
  const auto rank = static_cast<std::size_t>(fullest);
  const std::string doing =
      peak.step < 0
          ? "gathers parameters"
          : "runs " + to_text(step.passes.ranks[rank][static_cast<std::size_t>(peak.step)]);
  throw DoesNotFit(fmt::format(
      "pipeline rank {} does not fit: {:.1f} GB too much. When it {}, {:.3f} s into a step of {} "
      "micro-batches under {}, it holds {:.1f} GB ({}); a {} has {:.1f} GB, less a reserve of "
      "{:.1f} GB",
      fullest, gigabytes(needed - capacity), doing, to_seconds(peak.when - Time()),
      step.microbatches, step.schedule, gigabytes(needed), parts, scenario.cluster.gpu.name,
      gigabytes(scenario.cluster.gpu.hbm_capacity), gigabytes(plan.memory.reserve)));
}

StepForecast planned_step(const Scenario& scenario, const PlanSpec& plan, int global_batch,
                          const StepRouting& routing, SimulationMode mode) {
  // A phase may lay the model out anew; its data-parallel ranks then follow from its plan.
  Scenario phase = scenario;
  phase.plan = plan;
  StepForecast out;
  out.microbatches = microbatches_of(phase, global_batch);
  ChosenSchedule chosen = choose_schedule(plan, out.microbatches,
                                          [&] { return stage_costs(phase, plan, routing.even); });
  out.schedule = chosen.name;
  out.passes = std::move(chosen.schedule);
  out.tokens = Tokens(static_cast<std::int64_t>(global_batch) * scenario.recipe.seq_length);
  out.plan = plan_step(
      phase, plan, out.passes, routing.even,
      {.mode = mode, .router = routing.router.get(), .fabric_slowdown = routing.fabric_slowdown});
  return out;
}

StepForecast forecast_step(const Scenario& scenario, const PlanSpec& plan, int global_batch,
                           const StepRouting& routing, SimulationMode mode, std::uint64_t seed,
                           int threads, StepTrace* trace, bool explain) {
  StepForecast out = planned_step(scenario, plan, global_batch, routing, mode);
  Scenario phase = scenario;
  phase.plan = plan;
  out.times = simulate_step(
      phase, plan, out.plan, out.passes,
      {.mode = mode, .router = routing.router.get(), .seed = seed, .explain = explain}, trace,
      on_threads(threads));
  return out;
}

Forecast forecast(const Scenario& scenario, const ForecastOptions& options) {
  Forecast out;
  const PhaseSpec& main = main_phase(scenario.recipe);
  const PhaseRouting routing(scenario, options.seed);
  if (options.progress) options.progress("training step", 0);
  out.step = forecast_step(scenario, main.plan, main.global_batch_size->to, routing.of(main.plan),
                           options.mode, options.seed, options.threads, options.trace);
  out.memory = step_memory(scenario, main.plan, out.step, routing.of(main.plan), options.mode,
                           options.threads);
  out.memory_capacity = memory_capacity(scenario.cluster.gpu, main.plan);
  require_memory(out.memory, scenario, main.plan, out.step);
  out.events = out.step.times.events;
  out.throughput = throughput_of(scenario, out.step);
  out.parameters = count_parameters(scenario.model);
  for (int rank = 0; rank < out.memory.ranks(); ++rank) {
    out.parameters_per_rank.push_back(out.memory.persistent(rank).parameters);
  }
  out.gpu_hours_per_trillion_tokens = gpu_hours_per_token(scenario, out.step) * kTrillion;
  out.days_per_trillion_tokens =
      out.gpu_hours_per_trillion_tokens / scenario.cluster.gpus() / kHoursPerDay;
  forecast_phases(scenario, main, routing, options, out);
  forecast_losses(scenario, main, routing, options, out);
  forecast_interval(scenario, main, routing, options, out);
  out.assumptions = assumptions_of(scenario, main.plan);
  out.provenance = provenance_of(scenario, main.plan);
  return out;
}

}  // namespace pipecast
