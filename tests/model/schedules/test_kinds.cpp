// Laws that hold for every kind of schedule.
#include <catch2/catch.hpp>

#include "model/schedules/schedule.hpp"

using namespace pipecast;

TEST_CASE("the registry knows these schedules", "[schedule]") {
  const std::vector<std::string> expected{
      "1f1b",      //
      "dualpipe",  //
      "searched",  //
  };
  REQUIRE(Registry<ScheduleKind>::instance().names() == expected);
}
