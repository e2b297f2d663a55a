#include <catch2/catch.hpp>
#include <string>

#include "model/schedules/checker.hpp"
#include "model/schedules/text.hpp"

using namespace pipecast;

namespace {

std::string first_violation(const char* text) {
  return check_schedule(parse_schedule(text, "test")).value_or("none");
}

}  // namespace

TEST_CASE("a schedule that does the work passes, split or not", "[schedule]") {
  REQUIRE(first_violation("rank 0: F0.0 B0.0\n") == "none");
  REQUIRE(first_violation("rank 0: F0.0 Bi0.0 W0.0\n") == "none");
  REQUIRE(first_violation("rank 0: F0.0 F0.1&B0.0 B0.1\n") == "none");
}

TEST_CASE("a schedule without any backward is one of forwards only", "[schedule]") {
  REQUIRE(first_violation("rank 0: F0.0 F0.1\nrank 1: F0.0 F0.1\n") == "none");
  REQUIRE(first_violation("rank 0: F0.0 F0.1\nrank 1: F0.0 F0.1 B0.1\n") ==
          "rank 0 never runs B0.0");
}

TEST_CASE("each kind of violation is named", "[schedule]") {
  REQUIRE(first_violation("rank 0: B0.0 F0.0\n") == "rank 0 runs B0.0 before its forward");
  REQUIRE(first_violation("rank 0: F0.0 W0.0 Bi0.0\n") == "rank 0 runs W0.0 before its Bi");
  REQUIRE(first_violation("rank 0: F0.0 F0.0 B0.0\n") == "rank 0 does the work of F0.0 twice");
  REQUIRE(first_violation("rank 0: F0.0 B0.0 B0.0\n") == "rank 0 does the work of B0.0 twice");
  REQUIRE(first_violation("rank 0: F0.0 B0.0 W0.0\n") == "rank 0 does the work of W0.0 twice");
  REQUIRE(first_violation("rank 0: F0.1 B0.1\n") == "rank 0 never runs F0.0");
  REQUIRE(first_violation("rank 0: F0.0 F0.1 B0.1\n") == "rank 0 never runs B0.0");
  REQUIRE(first_violation("rank 0: F0.0 Bi0.0\n") == "rank 0 never runs W0.0");
  REQUIRE(first_violation("rank 0: F0.0 B0.0\nrank 1:\n") == "rank 1 never runs F0.0");
  REQUIRE(first_violation("rank 0: F0.0 F0.1&Bi0.0 B0.1 W0.0\n") ==
          "rank 0: F0.1&Bi0.0 is not a forward beside a full backward");
  REQUIRE(first_violation("rank 0: F0.0&B0.0\n") ==
          "rank 0: F0.0&B0.0 overlaps a micro-batch with itself");
  REQUIRE(first_violation("rank 0: F0.0 B0.0 F0.1 B0.1\nrank 1: F0.0 F0.1 B0.0 B0.1\n") ==
          "the schedule cannot run: rank 0 waits forever to start B0.0");
}

TEST_CASE("a schedule made by hand is checked for its shape first", "[schedule]") {
  const Schedule good = parse_schedule("rank 0: F0.0 B0.0\nrank 1: F0.0 B0.0\n", "test");
  Schedule bad = good;
  bad.ranks.clear();
  REQUIRE(check_schedule(bad) == "the schedule has no ranks");
  bad = good;
  bad.microbatches = {1, 1};
  REQUIRE(
      check_schedule(bad) ==
      "1 lanes of stages and 2 paths of micro-batches; expected one path, or one for each lane");
  bad = good;
  bad.stage_of[0] = {0, 0};
  REQUIRE(check_schedule(bad) == "lane 0 does not place each of 2 stages once");
  bad = good;
  bad.stage_of[0] = {0, 2};
  REQUIRE(check_schedule(bad) == "lane 0 does not place each of 2 stages once");
  bad = good;
  bad.stage_of[0] = {0, 1, 2};
  REQUIRE(check_schedule(bad) == "lane 0 has stages on 3 ranks; there are 2");
  bad = good;
  bad.ranks[1][0].first.lane = 1;
  REQUIRE(check_schedule(bad) == "rank 1: F1.0 has no such lane; there are 1");
  bad = good;
  bad.ranks[1][0].first.microbatch = 1;
  REQUIRE(check_schedule(bad) == "rank 1: F0.1 has no such micro-batch; lane 0 has 1");
}

TEST_CASE("transfers that block lock where two ranks wait for each other", "[schedule]") {
  const auto lock = [](const char* text) {
    const Schedule schedule = parse_schedule(text, "test");
    REQUIRE(check_schedule(schedule) == std::nullopt);
    return find_blocking_deadlock(schedule).value_or("none");
  };
  // One forward, one backward: a rank sends its activation while it receives a gradient.
  REQUIRE(lock("rank 0: F0.0 F0.1 B0.0 B0.1\nrank 1: F0.0 B0.0 F0.1 B0.1\n") == "none");
  // Rank 1 cannot leave B0.0 before it is received, which is after F0.3; that needs F0.2 received.
  REQUIRE(lock("rank 0: F0.0 F0.1 F0.2 F0.3 B0.0 B0.1 B0.2 B0.3\n"
               "rank 1: F0.0 B0.0 F0.1 B0.1 F0.2 B0.2 F0.3 B0.3\n") ==
          "rank 0 waits to send the result of F0.2 to rank 1, which does not come to receive it");
  // Used in another order than sent.
  REQUIRE(lock("rank 0: F0.0 F0.1 B0.0 B0.1\nrank 1: F0.1 F0.0 B0.0 B0.1\n") ==
          "rank 0 waits to send the result of F0.0 to rank 1, which does not come to receive it");
}
