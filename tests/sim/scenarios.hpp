/// Shipped scenarios and the steps that tests simulate.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "app/config/load.hpp"
#include "sim/cluster/step_simulation.hpp"

namespace pipecast::testing {

inline Scenario shipped(const std::string& name, const std::vector<std::string>& sets = {}) {
  Scenario scenario =
      load_scenario(fmt::format("{}/configs/scenarios/{}.yaml", PIPECAST_SOURCE_DIR, name), sets)
          .scenario;
  scenario.variation.late_arrivals = 1;  // as measured, for the small case too
  return scenario;
}

/// 64 H100, four pipeline ranks of 16 GPUs: simulates in an instant.
inline Scenario tiny(const std::vector<std::string>& sets = {}) {
  return shipped("tiny-moe-h100", sets);
}

/// No GPU enters an exchange later than it could.
inline Scenario punctual(Scenario scenario) {
  scenario.variation.late_arrivals = 0;
  return scenario;
}

inline Schedule make_schedule(const std::string& kind, int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find(kind).make(
      {.ranks = ranks, .microbatches = microbatches});
}

inline RoutingStatistics routing_of(const Scenario& s) {
  return balanced_routing(s.model, s.plan.ep, s.cluster.gpus_per_node);
}

/// One step of the scenario's plan with a schedule of this kind.
inline StepTimes simulate(const Scenario& s, const std::string& kind, int microbatches,
                          SimulationMode mode = SimulationMode::kFolded,
                          StepTrace* trace = nullptr) {
  const Schedule schedule = make_schedule(kind, s.plan.pp, microbatches);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  return simulate_step(s, s.plan, plan, schedule, {.mode = mode}, trace);
}

}  // namespace pipecast::testing
