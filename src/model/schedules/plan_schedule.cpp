#include "model/schedules/plan_schedule.hpp"

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

const Registry<ScheduleKind>& kinds() { return Registry<ScheduleKind>::instance(); }

Schedule schedule_from_file(const PlanSpec& plan, int microbatches) {
  const Schedule& given = *plan.schedule_from_file;
  const int ranks = static_cast<int>(given.ranks.size());
  const int all = given.all_microbatches();
  require<ImpossiblePlan>(ranks == plan.pp && all == microbatches,
                          "{}: has {} micro-batches on {} ranks; the step has {} on {}",
                          plan.schedule, all, ranks, microbatches, plan.pp);
  return given;
}

Schedule own_schedule(const PlanSpec& plan, int microbatches,
                      const std::function<ScheduleCosts()>& costs_of) {
  if (plan.schedule_from_file != nullptr) return schedule_from_file(plan, microbatches);
  const ScheduleKind& kind = kinds().find(plan.schedule);
  PipelineShape shape{.ranks = plan.pp,
                      .microbatches = microbatches,
                      .virtual_stages = plan.vpp.value_or(0),
                      .activation_limit = plan.activation_limit.value_or(0)};
  if (kind.searches && costs_of) shape.costs = costs_of();
  return kind.make(shape);
}

bool can_hold(const ScheduleKind& kind, int stages) {
  return stages == kind.virtual_stages || (kind.takes_virtual_stages && stages > 1);
}

/// @param why  the plan's own schedule cannot run
Schedule fallback_schedule(const PlanSpec& plan, int microbatches, const ImpossiblePlan& why) {
  const int stages = stages_per_rank(plan);
  const ScheduleKind& fallback = kinds().find(plan.fallback_schedule);
  if (!can_hold(fallback, stages)) {
    std::vector<std::string> able;
    for (const std::string& name : kinds().names()) {
      if (can_hold(kinds().find(name), stages)) able.push_back(name);
    }
    throw ImpossiblePlan(
        fmt::format("{}; the fallback_schedule {} cannot take its place, because the layout has {} "
                    "stages on a rank; expected one of: {}",
                    why.what(), plan.fallback_schedule, stages, join(able)));
  }
  return fallback.make({.ranks = plan.pp,
                        .microbatches = microbatches,
                        .virtual_stages = stages == fallback.virtual_stages ? 0 : stages});
}

}  // namespace

int stages_per_rank(const PlanSpec& plan) {
  if (plan.schedule_from_file != nullptr) {
    const Schedule& given = *plan.schedule_from_file;
    return given.stages() / static_cast<int>(given.ranks.size());
  }
  return kinds()
      .find(plan.schedule)
      .stages_per_rank({.ranks = plan.pp, .virtual_stages = plan.vpp.value_or(0)});
}

ChosenSchedule choose_schedule(const PlanSpec& plan, int microbatches,
                               const std::function<ScheduleCosts()>& costs_of) {
  try {
    return {plan.schedule, own_schedule(plan, microbatches, costs_of)};
  } catch (const ImpossiblePlan& why) {
    if (plan.fallback_schedule.empty()) throw;
    return {plan.fallback_schedule, fallback_schedule(plan, microbatches, why)};
  }
}

}  // namespace pipecast
