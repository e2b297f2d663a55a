#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "model/schedules/checker.hpp"
#include "model/schedules/text.hpp"
#include "model/schedules/timing.hpp"

using namespace pipecast;

namespace {

Schedule make(int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find("dualpipe").make({ranks, microbatches});
}

/// The ticks in the headers of the worked schedules.
constexpr PassDurations kTicks{.forward = Duration(10),
                               .backward = Duration(30),
                               .backward_input = Duration(18),
                               .backward_weight = Duration(12),
                               .overlapped = Duration(34)};

std::string read(const std::string& path) {
  std::ifstream file(path);
  REQUIRE(file);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The numbers after "# <title>: " in a header.
std::vector<std::int64_t> header(const std::string& text, const std::string& title) {
  const std::string start = "# " + title + ": ";
  const std::size_t from = text.find(start);
  REQUIRE(from != std::string::npos);
  std::istringstream line(text.substr(from + start.size(), text.find('\n', from) - from));
  std::vector<std::int64_t> out;
  for (std::int64_t value = 0; line >> value;) out.push_back(value);
  return out;
}

}  // namespace

TEST_CASE("dualpipe equals the worked schedules token by token and tick by tick", "[schedule]") {
  const auto [ranks, microbatches] = GENERATE(
      table<int, int>({{2, 4}, {4, 8}, {4, 12}, {8, 16}, {8, 20}, {8, 32}, {16, 32}, {16, 120}}));
  CAPTURE(ranks, microbatches);
  const std::string text =
      read(std::string(PIPECAST_SOURCE_DIR) + "/tests/model/schedules/dualpipe/dualpipe_pp" +
           std::to_string(ranks) + "_mb" + std::to_string(microbatches) + ".txt");
  const Schedule schedule = make(ranks, microbatches);
  const Schedule worked = parse_schedule(text, "worked");
  REQUIRE(text.find(to_text(schedule)) != std::string::npos);
  REQUIRE(worked.ranks == schedule.ranks);
  REQUIRE(worked.stage_of == schedule.stage_of);
  REQUIRE(worked.microbatches == schedule.microbatches);

  const ScheduleTiming timing = time_schedule(schedule, {{kTicks}, Duration{}});
  REQUIRE(timing.makespan.count() == header(text, "makespan").at(0));
  std::vector<std::int64_t> finish;
  for (const Time end : timing.finish) finish.push_back(end.count());
  REQUIRE(finish == header(text, "finish per rank"));
  const std::vector<std::int64_t> peaks(timing.peak_live_activations.begin(),
                                        timing.peak_live_activations.end());
  REQUIRE(peaks == header(text, "peak live activations per rank (micro-batch chunks)"));
}

TEST_CASE("dualpipe does all the work with p+1 live chunks and mirror-image halves",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 10, 12, 14, 16);
  const int more = GENERATE(0, 2, 4, 18, 40);
  CAPTURE(ranks, more);
  const Schedule schedule = make(ranks, 2 * ranks + more);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  const ScheduleTiming timing = time_schedule(schedule, {{kTicks}, Duration{}});
  for (const int peak : timing.peak_live_activations) REQUIRE(peak == ranks + 1);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const auto& mirror = schedule.ranks[schedule.ranks.size() - 1 - rank];
    REQUIRE(schedule.ranks[rank].size() == mirror.size());
    for (std::size_t i = 0; i < mirror.size(); ++i) {
      REQUIRE(schedule.ranks[rank][i].first.pass == mirror[i].first.pass);
      REQUIRE(schedule.ranks[rank][i].first.lane == 1 - mirror[i].first.lane);
      REQUIRE(schedule.ranks[rank][i].first.microbatch == mirror[i].first.microbatch);
      REQUIRE(schedule.ranks[rank][i].overlapped == mirror[i].overlapped);
    }
  }
}

TEST_CASE("the bubble of dualpipe is within the published one and the same at any length",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 8, 16);
  CAPTURE(ranks);
  // (p/2-1)(F&B + B - 3W): DeepSeek-V3 Technical Report, table 2.
  const Duration published =
      (kTicks.overlapped + kTicks.backward - kTicks.backward_weight * 3) * (ranks / 2 - 1);
  const auto bubbles = [&](int microbatches) {
    return time_schedule(make(ranks, microbatches), {{kTicks}, Duration{}}).bubble;
  };
  const auto shortest = bubbles(2 * ranks);
  for (const Duration bubble : shortest) REQUIRE(bubble <= published);
  REQUIRE(bubbles(2 * ranks + 2) == shortest);
  REQUIRE(bubbles(8 * ranks) == shortest);
}

TEST_CASE("dualpipe overlaps all pairs of the main part but one on the two middle ranks",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 8, 16);
  const int per_direction = GENERATE(16, 17, 60);
  CAPTURE(ranks, per_direction);
  const Schedule schedule = make(ranks, 2 * per_direction);
  for (int rank = 0; rank < ranks; ++rank) {
    const int h = std::min(rank, ranks - 1 - rank);
    const bool middle = h == ranks / 2 - 1;
    const auto& steps = schedule.ranks[static_cast<std::size_t>(rank)];
    const auto pairs =
        std::count_if(steps.begin(), steps.end(), [](const Step& step) { return step.overlapped; });
    // Two in each round of step 4, one in each round of step 5.
    REQUIRE(pairs == 2 * (per_direction - ranks + h + 1) + (ranks / 2 - h - 1) - (middle ? 1 : 0));
  }
}

TEST_CASE("dualpipe says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(make(16, 24), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(16, 24),
                      "dualpipe: 24 micro-batches on 16 ranks; it needs an even number of ranks "
                      "and an even number of micro-batches, at least 2 x ranks = 32");
  REQUIRE_NOTHROW(make(16, 32));
  REQUIRE_THROWS_AS(make(16, 33), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(5, 20), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(0, 0), ImpossiblePlan);
}
