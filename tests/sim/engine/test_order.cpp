/// The order of events is sacred: the fast queue against the naive reference, on every kind of load
/// that has a branch of its own in the queue.
#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "base/random.hpp"
#include "sim/engine/engine.hpp"

using namespace pipecast;

namespace {

/// Delays of one load, in picoseconds.
enum class Load { kNarrow, kEqual, kBursts, kFarFuture, kBimodal, kSteps, kWide };
constexpr Load kLoads[] = {Load::kNarrow,  Load::kEqual, Load::kBursts, Load::kFarFuture,
                           Load::kBimodal, Load::kSteps, Load::kWide};

std::int64_t draw_delay(Load load, Random& random) {
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.below(bound));
  };
  switch (load) {
    case Load::kNarrow:
      return below(1000);
    case Load::kEqual:
      return 0;
    case Load::kBursts:
      return random.below(20) == 0 ? below(1'000'000) : 0;
    case Load::kFarFuture:  // 100 times 10 days stays within 63 bits
      return below(1'000'000'000'000'000'000 / 100);
    case Load::kBimodal:
      return random.below(10) == 0 ? below(1'000'000'000'000) : below(1'000'000);
    case Load::kSteps:
      return 1000 * below(4);
    case Load::kWide:  // every order of magnitude from 1 ps to 3 hours
      return below(std::uint64_t{1} << random.below(54));
  }
  return 0;
}

/// What the engine promises, in the plainest words: of all pending events the one that comes first
/// by time, then phase, then insertion.
class NaiveQueue {
 public:
  void push(std::int64_t when, EventPhase phase, std::uint32_t name) {
    pending_.push_back({when, phase, name});
  }
  bool empty() const { return pending_.empty(); }
  std::uint32_t pop(std::int64_t& now) {
    // min_element returns the first of equals, and insertion order is the order of the vector.
    const auto first =
        std::min_element(pending_.begin(), pending_.end(), [](const Waiting& a, const Waiting& b) {
          return a.when != b.when ? a.when < b.when : a.phase < b.phase;
        });
    now = first->when;
    const std::uint32_t name = first->name;
    pending_.erase(first);
    return name;
  }

 private:
  struct Waiting {
    std::int64_t when;
    EventPhase phase;
    std::uint32_t name;
  };
  std::vector<Waiting> pending_;
};

EventPhase draw_phase(Random& random) { return static_cast<EventPhase>(random.below(4)); }

/// Both queues play the same random script: `first` events to begin with, and each event that runs
/// schedules 0 to 2 more until `total` are made. Returns the names in the order in which they ran.
template <class Schedule>
void script(Load load, Random& random, std::uint32_t& made, std::uint32_t total, int most,
            Schedule&& schedule) {
  const auto more = most == 2 ? random.below(3) : static_cast<std::uint64_t>(most);
  for (std::uint64_t i = 0; i < more && made < total; ++i) {
    const std::int64_t delay = draw_delay(load, random);
    schedule(delay, draw_phase(random), made++);
  }
}

std::vector<std::uint32_t> play_engine(Load load, std::uint64_t seed, int first,
                                       std::uint32_t total) {
  Random random(seed, "order");
  Engine engine;
  std::uint32_t made = 0;
  std::vector<std::uint32_t> order;
  const auto schedule = [&](std::int64_t delay, EventPhase phase, std::uint32_t name) {
    engine.schedule(engine.now() + Duration(delay), phase, 0, name);
  };
  script(load, random, made, total, first, schedule);
  engine.run([&](const Event& event) {
    order.push_back(event.actor);
    script(load, random, made, total, 2, schedule);
  });
  engine.assert_drained();
  return order;
}

std::vector<std::uint32_t> play_naive(Load load, std::uint64_t seed, int first,
                                      std::uint32_t total) {
  Random random(seed, "order");
  NaiveQueue queue;
  std::int64_t now = 0;
  std::uint32_t made = 0;
  std::vector<std::uint32_t> order;
  const auto schedule = [&](std::int64_t delay, EventPhase phase, std::uint32_t name) {
    queue.push(now + delay, phase, name);
  };
  script(load, random, made, total, first, schedule);
  while (!queue.empty()) {
    order.push_back(queue.pop(now));
    script(load, random, made, total, 2, schedule);
  }
  return order;
}

}  // namespace

TEST_CASE("events scheduled before the run come in the order of a stable sort", "[engine]") {
  const Load load = GENERATE(from_range(std::begin(kLoads), std::end(kLoads)));
  const int events = GENERATE(1, 31, 33, 1000, 50'000);
  CAPTURE(static_cast<int>(load), events);
  Random random(7, "stable sort", static_cast<std::uint64_t>(events));
  struct Waiting {
    std::int64_t when;
    EventPhase phase;
    std::uint32_t name;
  };
  std::vector<Waiting> expected;
  Engine engine;
  for (int i = 0; i < events; ++i) {
    const Waiting event{draw_delay(load, random), draw_phase(random),
                        static_cast<std::uint32_t>(i)};
    expected.push_back(event);
    engine.schedule(Time(event.when), event.phase, 0, event.name);
  }
  std::stable_sort(expected.begin(), expected.end(), [](const Waiting& a, const Waiting& b) {
    return a.when != b.when ? a.when < b.when : a.phase < b.phase;
  });
  std::size_t next = 0;
  bool same = true;
  engine.run([&](const Event& event) {
    const Waiting& want = expected[next++];
    same = same && event.actor == want.name && event.phase == want.phase &&
           event.when == Time(want.when) && engine.now() == event.when;
  });
  REQUIRE(next == expected.size());
  REQUIRE(same);
}

TEST_CASE("events that schedule events run in the order of the naive queue", "[engine][property]") {
  for (const Load load : kLoads) {
    const bool holds = rc::check([load](std::uint64_t seed) {
      const int first = *rc::gen::element(1, 3, 40, 400);
      const auto total = static_cast<std::uint32_t>(*rc::gen::element(50, 700, 1500));
      RC_ASSERT(play_engine(load, seed, first, total) == play_naive(load, seed, first, total));
    });
    CAPTURE(static_cast<int>(load));
    REQUIRE(holds);
  }
}

TEST_CASE("events that flood the near future keep their order", "[engine]") {
  // Two far events span the sorted window; thousands then arrive inside it, nearer and nearer, so
  // that the heap of fresh events has to be spread over rungs again and again.
  Engine engine;
  Random random(3, "flood");
  for (std::uint32_t i = 0; i < 2; ++i) {
    engine.schedule(Time(1'000'000'000'000 * (i + 1)), EventPhase::kStart, 0, i);
  }
  std::uint64_t made = 2;
  engine.schedule(Time(1), EventPhase::kStart, 0, 0);
  std::vector<std::pair<Time, EventPhase>> ran;
  engine.run([&](const Event& event) {
    ran.emplace_back(event.when, event.phase);
    const std::int64_t width = 1'000'000'000'000 >> (2 * (made / 3000));
    for (int i = 0; i < 3 && made < 40'000; ++i, ++made) {
      const auto delay = static_cast<std::int64_t>(
          random.below(static_cast<std::uint64_t>(std::max<std::int64_t>(width, 3))));
      engine.schedule(event.when + Duration(delay), draw_phase(random), 0, 0);
    }
  });
  REQUIRE(ran.size() == made + 1);
  std::size_t behind = 0;
  for (std::size_t i = 1; i < ran.size(); ++i) behind += ran[i].first < ran[i - 1].first ? 1 : 0;
  REQUIRE(behind == 0);
  engine.assert_drained();
}

TEST_CASE("runs cut into slices of time give the same order as one run", "[engine]") {
  const Load load = GENERATE(Load::kNarrow, Load::kSteps, Load::kBursts);
  const auto play = [load](Duration slice) {
    Engine engine;
    Random random(11, "slices");
    std::vector<std::uint32_t> order;
    std::uint32_t made = 0;
    for (; made < 200; ++made) {
      engine.schedule(Time(draw_delay(load, random)), draw_phase(random), 0, made);
    }
    const auto handle = [&](const Event& event) {
      order.push_back(event.actor);
      if (made < 4000) {
        engine.schedule(event.when + Duration(draw_delay(load, random)), draw_phase(random), 0,
                        made++);
      }
    };
    for (Time limit = Time(slice.count()); engine.pending() > 0; limit += slice) {
      engine.run(handle, limit);
    }
    return order;
  };
  REQUIRE(play(Duration(97)) == play(Duration(1'000'000'000)));
}
