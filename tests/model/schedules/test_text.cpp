#include <catch2/catch.hpp>

#include "model/schedules/text.hpp"

using namespace pipecast;

TEST_CASE("text that is printed reads back as the same schedule", "[schedule][property]") {
  const std::string kind = GENERATE("1f1b", "dualpipe");
  const int ranks = GENERATE(2, 4, 6);
  const int microbatches = GENERATE(12, 14);
  const Schedule schedule =
      Registry<ScheduleKind>::instance().find(kind).make({ranks, microbatches});
  const Schedule again = parse_schedule(to_text(schedule), "test");
  REQUIRE(again.ranks == schedule.ranks);
  REQUIRE(again.stage_of == schedule.stage_of);
  REQUIRE(again.microbatches == schedule.microbatches);
}

TEST_CASE("stages are placed as the schedule needs them", "[schedule]") {
  const auto placed = [](const char* text) { return parse_schedule(text, "test").stage_of; };
  REQUIRE(placed("rank 0: F0.0 B0.0\nrank 1: F0.0 B0.0\n") == stages_in_line(2));
  // The last rank of a V goes straight on to the next chunk.
  REQUIRE(placed("rank 0: F0.0 F1.0 B1.0 B0.0\nrank 1: F0.0 F1.0 B1.0 B0.0\n") == stages_in_v(2));
  REQUIRE(placed("rank 0: F0.0 F0.1 F1.0 F1.1 B1.0 B1.1 B0.0 B0.1\n"
                 "rank 1: F0.0 F0.1 F1.0 B1.0 F1.1 B1.1 B0.0 B0.1\n") == stages_looped(2, 2));
  REQUIRE(placed("rank 0: F0.0 F1.0 B1.0 B0.0\nrank 1: F1.0 F0.0 B0.0 B1.0\n") ==
          stages_both_ways(2));
}

TEST_CASE("comments, blank lines and line ends of other systems are skipped", "[schedule]") {
  const Schedule schedule = parse_schedule("# a comment\r\n\r\nrank 0: F0.0 \tB0.0\r\n", "test");
  REQUIRE(to_text(schedule) == "rank 0: F0.0 B0.0\n");
}

TEST_CASE("what is not a schedule is refused with its place", "[schedule]") {
  const std::string pass =
      "expected a pass: F, B, Bi or W, a direction or local chunk, a dot, and a micro-batch, as in "
      "F0.3 or F0.3&B1.1";
  const auto parse = [](const char* text) { return parse_schedule(text, "s.txt"); };
  REQUIRE_THROWS_WITH(parse(""), "s.txt:1:1: no ranks; expected lines such as 'rank 0: F0.0 B0.0'");
  REQUIRE_THROWS_WITH(parse("rank 1: F0.0"), "s.txt:1:1: got 'rank'; expected 'rank 0:'");
  REQUIRE_THROWS_WITH(parse("rank 0: F0.0\nrank 0: F0.0"),
                      "s.txt:2:1: got 'rank'; expected 'rank 1:'");
  REQUIRE_THROWS_WITH(parse("rank 0: X0.0"), "s.txt:1:9: got 'X0.0'; " + pass);
  REQUIRE_THROWS_WITH(parse("rank 0: F.0"), "s.txt:1:10: got '.0'; " + pass);
  REQUIRE_THROWS_WITH(parse("rank 0: F64.0"),
                      "s.txt:1:12: got '.0'; expected fewer than 64 directions or chunks");
  REQUIRE_THROWS_WITH(parse("rank 0: F0.-1"), "s.txt:1:12: got '-1'; " + pass);
  REQUIRE_THROWS_WITH(parse("rank 0: F0.0&"), "s.txt:1:14: got ''; " + pass);
  REQUIRE_THROWS_WITH(parse("rank 0: F0.0B0.0"),
                      "s.txt:1:13: got 'B0.0'; expected a space after a pass");
  REQUIRE_THROWS_WITH(parse("rank 0: F0.100000 B0.0"),
                      "s.txt:1:18: got ''; expected fewer than 100000 micro-batches");
  REQUIRE_THROWS_WITH(parse("rank 0: F0.99999999999"), Catch::Contains("s.txt:1:12: got"));
}
