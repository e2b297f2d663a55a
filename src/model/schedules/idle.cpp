#include "model/schedules/idle.hpp"

#include <algorithm>
#include <cstdint>

namespace pipecast {
namespace {

bool is_forward(const Step& step) { return step.first.pass == Pass::kForward; }
bool is_backward(const Step& step) { return step.overlapped || !is_forward(step); }

/// Divides a rank's idle time at the start of its first backward and the end of its last forward.
void add_by_when(const std::vector<Step>& steps, const std::vector<StepTime>& times, Time makespan,
                 IdleTime& out) {
  if (steps.empty()) {
    out.drain = makespan - Time{};
    return;
  }
  const auto first_backward = std::find_if(steps.begin(), steps.end(), is_backward);
  const bool forward_only = first_backward == steps.end();
  const auto warm = static_cast<std::size_t>(forward_only ? 0 : first_backward - steps.begin());
  std::size_t last_forward = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (is_forward(steps[i])) last_forward = i;
  }
  Time before{};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    Duration& when = i <= warm ? out.warm_up : i <= last_forward ? out.steady : out.drain;
    when += times[i].start - before;
    if (i > 0) out.inside += times[i].start - before;
    before = times[i].end;
  }
  out.drain += makespan - before;
}

Duration mean(const std::vector<PassDurations>& passes, Duration PassDurations::*kind) {
  std::int64_t sum = 0;
  for (const PassDurations& pass : passes) sum += (pass.*kind).count();
  const auto n = static_cast<std::int64_t>(passes.size());
  return Duration((sum + n / 2) / n);
}

}  // namespace

ScheduleCosts equalised(const ScheduleCosts& costs) {
  PassDurations out;
  for (const auto kind :
       {&PassDurations::forward, &PassDurations::backward, &PassDurations::backward_input,
        &PassDurations::backward_weight, &PassDurations::overlapped}) {
    out.*kind = mean(costs.passes, kind);
  }
  return {.passes = {out}};
}

std::vector<IdleTime> classify_idle(const Schedule& schedule, const ScheduleCosts& costs,
                                    const ScheduleTiming& timing) {
  const std::vector<Duration> without_transfers =
      time_schedule(schedule, {.passes = costs.passes}).bubble;
  const std::vector<Duration> equal = time_schedule(schedule, equalised(costs)).bubble;
  std::vector<IdleTime> out(schedule.ranks.size());
  for (std::size_t rank = 0; rank < out.size(); ++rank) {
    add_by_when(schedule.ranks[rank], timing.steps[rank], timing.makespan, out[rank]);
    out[rank].dependency = equal[rank];
    out[rank].imbalance = without_transfers[rank] - equal[rank];
    out[rank].transfer = timing.bubble[rank] - without_transfers[rank];
  }
  return out;
}

}  // namespace pipecast
