/// A step that is planned once and played under many conditions.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "scenarios.hpp"
#include "sim/cluster/column.hpp"
#include "sim/cluster/step_simulation.hpp"

namespace pipecast::testing {

/// Routing of an expert-parallel group of the scenario; none: balanced.
inline std::shared_ptr<const Router> router_of(const Scenario& s, std::uint64_t seed) {
  if (s.routing.distribution == "balanced") return nullptr;
  const RoutingGroup group{.gpus = s.plan.ep,
                           .gpus_per_node = s.cluster.gpus_per_node,
                           .tokens = s.plan.micro_batch_size * s.recipe.seq_length};
  return std::make_shared<const Router>(s.model, s.routing, group, seed);
}

/// Popularities of experts from a Dirichlet distribution: the smaller the concentration, the less
/// even.
inline std::vector<std::string> dirichlet(const std::string& concentration) {
  return {"routing.distribution=dirichlet", "routing.concentration=" + concentration};
}

class PlayableStep {
 public:
  explicit PlayableStep(Scenario s, const std::string& kind = "dualpipe", int microbatches = 16,
                        SimulationMode mode = SimulationMode::kFull, std::uint64_t routing_seed = 1)
      : scenario(std::move(s)),
        router(router_of(scenario, routing_seed)),
        schedule(make_schedule(kind, scenario.plan.pp, microbatches)),
        plan(
            plan_step(scenario, scenario.plan, schedule, routing_of(scenario), mode, router.get())),
        mode_(mode) {}

  [[nodiscard]] StepConditions conditions(std::uint64_t seed = 1) const {
    return {.mode = mode_, .router = router.get(), .seed = seed};
  }
  [[nodiscard]] StepTimes play(std::uint64_t seed = 1, const ForEach& for_each = {}) const {
    return simulate_step(scenario, scenario.plan, plan, schedule, conditions(seed), nullptr,
                         for_each);
  }
  [[nodiscard]] ColumnTimes play_column(int column = 0, std::uint64_t seed = 1) const {
    return simulate_column(scenario, scenario.plan, plan, schedule, conditions(seed), column);
  }
  /// The same plan on GPUs that differ in another way, which no plan depends on.
  [[nodiscard]] StepTimes play_with(const VariationSpec& variation, std::uint64_t seed = 1) const {
    Scenario varied = scenario;
    varied.variation = variation;
    return simulate_step(varied, varied.plan, plan, schedule, conditions(seed));
  }

  Scenario scenario;
  std::shared_ptr<const Router> router;
  Schedule schedule;
  StepPlan plan;

 private:
  SimulationMode mode_;
};

/// GPUs that are alike and never late.
inline constexpr VariationSpec kAlike{.late_arrivals = 0};

/// All that a step says, to the last bit.
inline std::string text_of(const StepTimes& times) {
  std::string out = fmt::format("{} ps, {} events, {} GPUs\n", times.time.count(), times.events,
                                times.simulated_gpus);
  for (const RankTimes& rank : times.ranks) {
    for (const Duration share : rank.breakdown) out += fmt::format("{} ", share.count());
    out += fmt::format("| {} {} {} {} | {} {} {}\n", rank.overlap.communication.count(),
                       rank.overlap.hidden.count(), rank.overlap.exposed.count(),
                       rank.overlap.waiting_for_peers.count(), rank.finish.earliest.count(),
                       rank.finish.mean.count(), rank.finish.latest.count());
  }
  for (const CriticalShare& share : times.critical_path) {
    out += fmt::format("{} {} {} {}\n", share.operation, share.resource, share.pipeline_rank,
                       share.time.count());
  }
  for (const LinkUse& use : {times.nic, times.nvlink, times.pcie}) {
    out += fmt::format("{} {:a}\n", use.bytes.count(), use.busy_fraction);
  }
  return out + fmt::format("{:a} {:a} {:a}\n", times.loads.expert_max_over_mean,
                           times.loads.gpu_max_over_mean, times.loads.nodes_per_token);
}

}  // namespace pipecast::testing
