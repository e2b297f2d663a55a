/// The front end asks the registry for schedule names; its tests do not need the schedules.
#pragma once

#include "base/registry.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

/// Registers what is not linked in.
inline void register_stand_in_schedules() {
  auto& registry = Registry<ScheduleKind>::instance();
  for (const char* const name : {"1f1b", "dualpipe"}) {
    if (!registry.contains(name)) registry.add(name, {});
  }
}

}  // namespace pipecast
