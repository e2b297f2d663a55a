#include <catch2/catch.hpp>
#include <stdexcept>
#include <utility>
#include <vector>

#include "sim/engine/engine.hpp"
#include "sim/engine/span.hpp"

using namespace pipecast;

TEST_CASE("an empty engine stands at time 0", "[engine]") {
  Engine engine;
  engine.run([](const Event&) { FAIL("there is no event"); });
  REQUIRE(engine.now() == Time{});
  REQUIRE(engine.processed() == 0);
  REQUIRE(engine.pending() == 0);
  engine.assert_drained();
}

TEST_CASE("an event arrives as it was scheduled and now() is its time", "[engine]") {
  Engine engine;
  engine.schedule(Time(5), EventPhase::kArbitrate, 7, 8, 0xffff'ffff'ffff'ffff);
  engine.run([&](const Event& event) {
    REQUIRE(event.when == Time(5));
    REQUIRE(engine.now() == event.when);
    REQUIRE(event.phase == EventPhase::kArbitrate);
    REQUIRE(event.kind == 7);
    REQUIRE(event.actor == 8);
    REQUIRE(event.argument == 0xffff'ffff'ffff'ffff);
    REQUIRE(engine.processed() == 1);
    REQUIRE(engine.pending() == 0);
  });
  REQUIRE(engine.now() == Time(5));
}

TEST_CASE("at one instant phases run in order, and first in is first out within one", "[engine]") {
  const Time when(GENERATE(0, 1, 1'000'000));
  Engine engine;
  const EventPhase scheduled[] = {EventPhase::kObserve,   EventPhase::kStart,
                                  EventPhase::kRelease,   EventPhase::kObserve,
                                  EventPhase::kArbitrate, EventPhase::kRelease};
  for (std::uint32_t i = 0; i < 6; ++i) engine.schedule(when, scheduled[i], 0, i);
  std::vector<std::uint32_t> order;
  engine.run([&](const Event& event) { order.push_back(event.actor); });
  REQUIRE(order == std::vector<std::uint32_t>{2, 5, 4, 1, 0, 3});
}

TEST_CASE("an event of a lower phase at the present instant overtakes those that wait",
          "[engine]") {
  Engine engine;
  std::vector<std::uint32_t> order;
  engine.schedule(Time(10), EventPhase::kStart, 0, 0);
  engine.schedule(Time(10), EventPhase::kStart, 0, 1);
  engine.schedule(Time(11), EventPhase::kRelease, 0, 2);
  engine.run([&](const Event& event) {
    order.push_back(event.actor);
    if (event.actor == 0) {
      engine.schedule(Time(10), EventPhase::kStart, 0, 3);
      engine.schedule(Time(10), EventPhase::kRelease, 0, 4);
    }
  });
  REQUIRE(order == std::vector<std::uint32_t>{0, 4, 1, 3, 2});
}

TEST_CASE("a limit holds an event back at t-1 ps and lets it run at t", "[engine]") {
  Engine engine;
  int handled = 0;
  const auto count = [&](const Event&) { ++handled; };
  engine.schedule(Time(100), EventPhase::kStart, 0, 0);
  engine.run(count, Time(99));
  REQUIRE(handled == 0);
  REQUIRE(engine.pending() == 1);
  engine.schedule(Time(50), EventPhase::kStart, 0, 0);  // the future is open until it happens
  engine.run(count, Time(99));
  REQUIRE(handled == 1);
  REQUIRE(engine.now() == Time(50));
  engine.run(count, Time(100));
  REQUIRE(handled == 2);
  engine.assert_drained();
}

TEST_CASE("a limit in the past runs nothing, not even what is due now", "[engine]") {
  Engine engine;
  int handled = 0;
  engine.schedule(Time(10), EventPhase::kStart, 0, 0);
  engine.run([&](const Event&) { ++handled; });
  engine.schedule(Time(10), EventPhase::kStart, 0, 0);
  engine.run([&](const Event&) { ++handled; }, Time(9));
  REQUIRE(handled == 1);
  engine.run([&](const Event&) { ++handled; }, Time(10));
  REQUIRE(handled == 2);
}

TEST_CASE("the last picosecond of time can be reached", "[engine]") {
  Engine engine;
  int handled = 0;
  engine.schedule(kForever, EventPhase::kStart, 0, 0);
  engine.schedule(Time(1), EventPhase::kStart, 0, 0);
  for (int i = 0; i < 100; ++i) {
    engine.schedule(Time(kForever.count() - 50 * i), EventPhase::kObserve, 0, 0);
  }
  engine.run([&](const Event&) { ++handled; });
  REQUIRE(handled == 102);
  REQUIRE(engine.now() == kForever);
}

TEST_CASE("an exception ends the run, takes its event along and leaves the others", "[engine]") {
  Engine engine;
  for (std::int64_t when = 1; when <= 3; ++when) {
    engine.schedule(Time(when), EventPhase::kStart, 0, 0);
  }
  const auto fail_at_two = [&](const Event& event) {
    if (event.when == Time(2)) throw std::runtime_error("two");
  };
  REQUIRE_THROWS_WITH(engine.run(fail_at_two), "two");
  REQUIRE(engine.now() == Time(2));
  REQUIRE(engine.processed() == 2);
  REQUIRE(engine.pending() == 1);
  engine.run(fail_at_two);
  engine.assert_drained();
}

namespace {

/// A simulation as the hooks expect it: one that works with any sink.
template <SpanSink Sink>
Time run_three_tasks(Sink& sink) {
  Engine engine;
  engine.schedule(Time{}, EventPhase::kStart, 0, 0);
  engine.run([&](const Event& event) {
    if (event.actor == 3) return;
    const Time end = event.when + Duration(10);
    if constexpr (Sink::kEnabled) sink.record({event.actor, 9, event.when, end});
    engine.schedule(end, EventPhase::kStart, 0, event.actor + 1);
  });
  return engine.now();
}

}  // namespace

TEST_CASE("a sink sees what ran and changes nothing", "[engine]") {
  NoSpans none;
  SpanList list;
  REQUIRE(run_three_tasks(none) == Time(30));
  REQUIRE(run_three_tasks(list) == Time(30));
  REQUIRE(list.spans == std::vector<Span>{{0, 9, Time(0), Time(10)},
                                          {1, 9, Time(10), Time(20)},
                                          {2, 9, Time(20), Time(30)}});
}
