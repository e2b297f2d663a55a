#include <catch2/catch.hpp>

#include "base/random.hpp"
#include "sim/gpu/load_curve.hpp"

using namespace pipecast;

namespace {

constexpr int kSamples = LoadCurve::kSteps * LoadCurve::kMostLoads + 1;
constexpr std::size_t kPlace = static_cast<std::size_t>(Beside::kDispatch);
constexpr std::size_t kPhase = static_cast<std::size_t>(Phase::kMlpForward);

/// Load that lies on a sample, received tokens in proportion.
TaskLoad at_sample(int i) {
  const float share = static_cast<float>(i) / LoadCurve::kSteps;  // exact: a power of two
  return {.rows = share, .received = share};
}

/// Times that rise by chance, so that no line goes through three of them.
std::vector<TaskTimes> random_samples(std::uint64_t seed) {
  Random random(seed, "samples");
  std::vector<TaskTimes> out(kSamples);
  std::int64_t time = 1'000'000;
  for (TaskTimes& sample : out) {
    time += 1'000'000 + static_cast<std::int64_t>(random.below(1'000'000));
    for (std::size_t i = 0; i < kBesides; ++i) {
      sample.time[i] = Duration(time * static_cast<std::int64_t>(i + 1));
    }
    for (std::size_t i = 0; i < kPhases; ++i) {
      sample.beside_phase[i] = Duration(time * static_cast<std::int64_t>(i + 10));
    }
  }
  return out;
}

/// Twice the received tokens take this much longer than the balanced ones.
constexpr Duration kMoreReceived = microseconds(3);
LoadCurve curve_through(const std::vector<TaskTimes>& samples) {
  TaskTimes more = samples[LoadCurve::kSteps];
  for (Duration& time : more.time) time += kMoreReceived;
  for (Duration& time : more.beside_phase) time += kMoreReceived;
  return LoadCurve(samples, more);
}

/// Times double, and every sum of them, are exact to the picosecond but for the last rounding.
void require_nearest(Duration got, double wanted) {
  CAPTURE(got.count(), wanted);
  REQUIRE(std::abs(static_cast<double>(got.count()) - wanted) <= 0.5 + 1e-6);
}

double of(Duration time) { return static_cast<double>(time.count()); }

}  // namespace

TEST_CASE("a load curve goes through its samples exactly, beside everything", "[curve]") {
  const auto samples = random_samples(1);
  const LoadCurve curve = curve_through(samples);
  for (int i = 0; i < kSamples; ++i) {
    CAPTURE(i);
    const TaskTimes& sample = samples[static_cast<std::size_t>(i)];
    for (std::size_t place = 0; place < kBesides; ++place) {
      REQUIRE(curve.time(place, at_sample(i)) == sample.time[place]);
    }
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      REQUIRE(curve.beside_phase(phase, at_sample(i)) == sample.beside_phase[phase]);
    }
  }
}

TEST_CASE("a load curve is straight between neighbouring samples", "[curve][property]") {
  const auto samples = random_samples(2);
  const LoadCurve curve = curve_through(samples);
  // Quarters are exact in binary.
  const float share = GENERATE(0.25F, 0.5F, 0.75F);
  for (int i = 0; i + 1 < kSamples; ++i) {
    CAPTURE(i, share);
    const float rows = (static_cast<float>(i) + share) / LoadCurve::kSteps;
    const TaskTimes& below = samples[static_cast<std::size_t>(i)];
    const TaskTimes& above = samples[static_cast<std::size_t>(i) + 1];
    const auto between = [share](Duration a, Duration b) {
      return of(a) + (of(b) - of(a)) * static_cast<double>(share);
    };
    const TaskLoad load{.rows = rows, .received = rows};
    require_nearest(curve.time(kPlace, load), between(below.time[kPlace], above.time[kPlace]));
    require_nearest(curve.beside_phase(kPhase, load),
                    between(below.beside_phase[kPhase], above.beside_phase[kPhase]));
  }
}

TEST_CASE("beyond its last sample a load curve goes straight on", "[curve]") {
  const auto samples = random_samples(3);
  const LoadCurve curve = curve_through(samples);
  const Duration last = samples[kSamples - 1].time[kPlace];
  const Duration slope = last - samples[kSamples - 2].time[kPlace];  // of 1/16 of a balanced load
  const int beyond = GENERATE(1, 2, LoadCurve::kSteps);
  REQUIRE(curve.time(kPlace, at_sample(kSamples - 1 + beyond)) == last + beyond * slope);
}

TEST_CASE("received tokens beyond the rows' proportion cost in proportion", "[curve]") {
  const auto samples = random_samples(4);
  const LoadCurve curve = curve_through(samples);
  const float more = GENERATE(-0.25F, 0.F, 0.5F, 1.F);
  for (int i = LoadCurve::kSteps; i < kSamples; i += 5) {
    CAPTURE(i, more);
    TaskLoad load = at_sample(i);
    load.received += more;
    const double added = of(kMoreReceived) * static_cast<double>(more);
    const TaskTimes& sample = samples[static_cast<std::size_t>(i)];
    require_nearest(curve.time(kPlace, load), of(sample.time[kPlace]) + added);
    require_nearest(curve.beside_phase(kPhase, load), of(sample.beside_phase[kPhase]) + added);
  }
}

TEST_CASE("work never takes no time, however few tokens come", "[curve]") {
  std::vector<TaskTimes> samples(kSamples);  // all zero
  REQUIRE(LoadCurve(samples, samples[LoadCurve::kSteps]).time(0, at_sample(0)) == picoseconds(1));
  // Fewer received tokens than rows would pay for: the line falls below zero.
  TaskTimes more = samples[LoadCurve::kSteps];
  more.time[0] = microseconds(1);
  REQUIRE(LoadCurve(samples, more).time(0, {.rows = 1, .received = 0}) == picoseconds(1));
}

TEST_CASE("a load curve of rising samples never falls with the rows", "[curve][property]") {
  const LoadCurve curve = curve_through(random_samples(5));
  Duration before;
  for (int i = 0; i <= 4 * kSamples; ++i) {
    const float rows = static_cast<float>(i) / (3 * LoadCurve::kSteps);
    const Duration time = curve.time(kPlace, {.rows = rows, .received = rows});
    CAPTURE(rows);
    REQUIRE(time >= before);
    before = time;
  }
}
