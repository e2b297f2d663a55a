#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "fuzz/stand_in_schedules.hpp"

#include <catch2/catch.hpp>

namespace {

struct StandInSchedules : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    pipecast::register_stand_in_schedules();
  }
};
CATCH_REGISTER_LISTENER(StandInSchedules)

}  // namespace
