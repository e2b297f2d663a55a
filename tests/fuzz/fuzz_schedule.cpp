/// Schedules on one text: whatever the bytes, it is refused with Error, or what passes the checker
/// can be timed, keeps its promises, and reads back as it was written.
#include <cstdint>
#include <string>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/cost_table.hpp"
#include "model/schedules/idle.hpp"
#include "model/schedules/makespan_bound.hpp"
#include "model/schedules/text.hpp"

namespace {

using namespace pipecast;

void use(const Schedule& schedule) {
  const ScheduleCosts costs{
      .passes = {kUnitDurations}, .transfer_latency = Duration(1), .transfer_time = Duration(1)};
  const ScheduleTiming timing = time_schedule(schedule, costs);
  for (const IdleTime& idle : classify_idle(schedule, costs, timing)) {
    PIPECAST_ASSERT(idle.inside >= Duration{} && idle.steady >= Duration{});
  }
  PIPECAST_ASSERT(timing.makespan - Time{} >= makespan_bound(schedule, costs, 0));
  static_cast<void>(find_blocking_deadlock(schedule));
  PIPECAST_ASSERT(parse_schedule(to_text(schedule), "again").ranks == schedule.ranks);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Schedule schedule = parse_schedule(text, "fuzz.txt");
    if (!check_schedule(schedule)) use(schedule);
  } catch (const Error&) {
    // Refused, as it should be.
  }
  return 0;
}
