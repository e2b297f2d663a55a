#include "app/schedule/schedule_study.hpp"

#include <algorithm>

#include "app/config/load.hpp"
#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/makespan_bound.hpp"
#include "model/schedules/plan_schedule.hpp"

namespace pipecast {
namespace {

Schedule read_schedule(const std::string& kind, const ScheduleRequest& request) {
  Schedule out = load_schedule(kind.substr(kScheduleFile.size()));
  const auto must_equal = [&](int asked, int there, std::string_view what) {
    require<ImpossiblePlan>(asked == 0 || asked == there, "{} has {} {}; asked for {}", kind, there,
                            what, asked);
  };
  must_equal(request.ranks, static_cast<int>(out.ranks.size()), "ranks");
  must_equal(request.microbatches, out.all_microbatches(), "micro-batches");
  return out;
}

}  // namespace

Duration ScheduleStudy::largest_bubble() const {
  return *std::max_element(timing.bubble.begin(), timing.bubble.end());
}

Duration ScheduleStudy::largest_inside() const {
  Duration out;
  for (const IdleTime& t : idle) out = std::max(out, t.inside);
  return out;
}

int ScheduleStudy::largest_peak() const {
  return *std::max_element(timing.peak_live_activations.begin(),
                           timing.peak_live_activations.end());
}

ScheduleStudy study_schedule(const std::string& kind, const ScheduleRequest& request,
                             const CostsOf& costs_of) {
  ScheduleStudy out;
  out.kind = kind;
  StageCosts costs;
  int limit = request.activation_limit;
  if (names_file(kind)) {
    out.schedule = read_schedule(kind, request);
    costs = costs_of(out.schedule.stages(), out.schedule.all_microbatches(),
                     static_cast<int>(out.schedule.ranks.size()));
  } else {
    const ScheduleKind& entry = Registry<ScheduleKind>::instance().find(kind);
    PipelineShape shape{.ranks = request.ranks,
                        .microbatches = request.microbatches,
                        .virtual_stages = request.virtual_stages,
                        .activation_limit = request.activation_limit};
    costs = costs_of(shape.ranks * entry.stages_per_rank(shape), shape.microbatches, shape.ranks);
    shape.costs = costs.costs;
    if (entry.searches && limit == 0) limit = shape.ranks * entry.stages_per_rank(shape);
    out.schedule = entry.make(shape);
    PIPECAST_ASSERT(!check_schedule(out.schedule) && "a generator made what does not run");
    out.formula = entry.bubble.text;
    if (entry.bubble.value != nullptr) {
      out.formula_value = entry.bubble.value(shape, equalised(costs.costs).passes.front());
    }
  }
  out.virtual_stages = out.schedule.stages() / static_cast<int>(out.schedule.ranks.size());
  out.parameter_copies = out.schedule.paths();
  out.timing = time_schedule(out.schedule, costs.costs);
  require<ImpossiblePlan>(limit == 0 || out.largest_peak() <= limit,
                          "{}: keeps {} chunks live on a rank; the activation limit is {}", kind,
                          out.largest_peak(), limit);
  out.bound = makespan_bound(out.schedule, costs.costs, limit);
  out.idle = classify_idle(out.schedule, costs.costs, out.timing);
  if (!costs.bytes.empty()) out.peak_bytes = peak_live_bytes(out.schedule, costs.bytes);
  out.blocking_deadlock = find_blocking_deadlock(out.schedule);
  return out;
}

}  // namespace pipecast
