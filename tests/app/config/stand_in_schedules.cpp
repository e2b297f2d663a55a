/// The front end asks the registry for schedule names; these tests do not need the schedules.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>

#include "base/registry.hpp"
#include "model/schedules/schedule.hpp"

namespace {

struct StandInSchedules : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    auto& registry = pipecast::Registry<pipecast::ScheduleKind>::instance();
    for (const char* const name : {"1f1b", "dualpipe"}) {
      if (!registry.contains(name)) registry.add(name, {});
    }
  }
};
CATCH_REGISTER_LISTENER(StandInSchedules)

}  // namespace
