// Laws that hold for every kind of schedule.
#include <catch2/catch.hpp>

#include "model/schedules/schedule.hpp"

using namespace pipecast;

TEST_CASE("the registry knows these schedules", "[schedule]") {
  const std::vector<std::string> expected{
      "1f1b",          //
      "bfs",           //
      "chimera",       //
      "dualpipe",      //
      "dualpipev",     //
      "forward-only",  //
      "gpipe",         //
      "interleaved",   //
      "searched",      //
      "v-half",        //
      "v-min",         //
      "zb-h1",         //
      "zb-h2",         //
      "zb-v",          //
  };
  REQUIRE(Registry<ScheduleKind>::instance().names() == expected);
}
