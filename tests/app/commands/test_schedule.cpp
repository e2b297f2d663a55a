#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <numeric>

#include "app/schedule/pass_durations.hpp"
#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Json = nlohmann::json;

namespace {

const std::string kTiny = PIPECAST_SOURCE_DIR "/configs/scenarios/tiny-moe-h100.yaml";
const std::string kTicks = "F=10,B=30,Bi=18,W=12,FB=34";

Json schedule(std::vector<std::string> arguments) {
  return run_command("schedule", std::move(arguments));
}

Json schedule_of(const std::string& kind, int ranks, int microbatches,
                 std::vector<std::string> more = {}) {
  more.insert(more.end(), {"--kind", kind, "--ranks", std::to_string(ranks), "--microbatches",
                           std::to_string(microbatches)});
  return schedule(more);
}

const Json& row_of(const Json& comparison, const std::string& kind) {
  for (const Json& row : comparison["rows"]) {
    if (row["kind"] == kind) return row;
  }
  throw Error("no row of " + kind);
}

}  // namespace

TEST_CASE("a schedule is told with its times, idle times and peaks", "[command][schedule]") {
  const Json out = schedule_of("dualpipe", 4, 8, {"--durations", kTicks});
  // The header of the worked schedule of this shape.
  REQUIRE(out["makespan"] == 322);
  REQUIRE(out["finish"] == Json({322, 316, 316, 322}));
  REQUIRE(out["peak_live_activations"] == Json({5, 5, 5, 5}));
  REQUIRE(out["bubble_formula"] == (34 + 30 - 3 * 12) * (4 / 2 - 1));
  REQUIRE(out["parameter_copies"] == 2);
  REQUIRE(out["makespan_bound"] <= out["makespan"]);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    std::int64_t busy = 0;
    for (const Json& step : out["steps"][rank]) {
      busy += step["end"].get<std::int64_t>() - step["start"].get<std::int64_t>();
    }
    REQUIRE(out["bubble"][rank] == 322 - busy);
    const Json& idle = out["idle"][rank];
    const auto sum = [&](std::initializer_list<const char*> keys) {
      std::int64_t total = 0;
      for (const char* key : keys) total += idle[key].get<std::int64_t>();
      return total;
    };
    REQUIRE(sum({"warm_up", "steady", "drain"}) == out["bubble"][rank]);
    REQUIRE(sum({"dependency", "imbalance", "transfer"}) == out["bubble"][rank]);
    const Json& steps = out["steps"][rank];
    const std::int64_t span =
        steps.back()["end"].get<std::int64_t>() - steps.front()["start"].get<std::int64_t>();
    REQUIRE(idle["inside"] == span - busy);
  }
}

TEST_CASE("durations that are not given follow from those that are", "[command][schedule]") {
  const auto ticks = [](const char* text) {
    const PassDurations d = parse_durations(text);
    return std::vector<std::int64_t>{d.forward.count(), d.backward.count(),
                                     d.backward_input.count(), d.backward_weight.count(),
                                     d.overlapped.count()};
  };
  using Ticks = std::vector<std::int64_t>;
  REQUIRE(ticks("F=10,B=30,Bi=18,W=12,FB=34") == Ticks{10, 30, 18, 12, 34});
  REQUIRE(ticks("F=10,B=31") == Ticks{10, 31, 16, 15, 41});
  REQUIRE(ticks("F=10,Bi=18,W=12") == Ticks{10, 30, 18, 12, 40});
  REQUIRE(ticks("F=10,B=30,W=12") == Ticks{10, 30, 18, 12, 40});
  REQUIRE(ticks("F=10,B=30,Bi=18") == Ticks{10, 30, 18, 12, 40});
  REQUIRE_THROWS_WITH(ticks("F=10"),
                      "--durations: neither B nor both of Bi and W are given; expected such as "
                      "F=10,B=30,Bi=18,W=12,FB=34, in ticks");
  REQUIRE_THROWS_WITH(ticks("F=10,B=-1"),
                      "--durations: B takes '-1'; expected whole ticks from 0 to 1000000");
  REQUIRE_THROWS_WITH(ticks("F=10,F=11,B=3"), "--durations: F is given twice");
  REQUIRE_THROWS_WITH(ticks("F=10,X=3"),
                      "--durations: got 'X=3'; expected such as F=10,B=30,Bi=18,W=12,FB=34, in "
                      "ticks");
}

TEST_CASE("factors make stages and micro-batches unequal", "[command][schedule]") {
  const auto makespan = [](std::vector<std::string> more) {
    return schedule_of("1f1b", 2, 3, std::move(more))["makespan"].get<std::int64_t>();
  };
  const std::vector<std::string> durations{"--durations", "F=10,B=20"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), durations.begin(), durations.end());
    return makespan(more);
  };
  REQUIRE(with({}) == (3 + 1) * 30);
  REQUIRE(with({"--stage-factors", "2,2"}) == 2 * (3 + 1) * 30);
  REQUIRE(with({"--stage-factors", "2"}) == 2 * (3 + 1) * 30);
  // The second rank is busy from the end of the first forward to the start of the last backward.
  REQUIRE(with({"--stage-factors", "1,2"}) == 10 + 3 * 60 + 20);
  REQUIRE(with({"--microbatch-factors", "1,1,1"}) == with({}));
  REQUIRE(with({"--microbatch-factors", "2,2,2"}) == 2 * with({}));
  REQUIRE(with({"--transfer-latency", "7"}) > with({}));
  REQUIRE_THROWS_WITH(with({"--stage-factors", "1,2,3"}),
                      "--stage-factors: 3 factors for 2 stages");
  REQUIRE_THROWS_WITH(with({"--microbatch-factors", "1,2"}),
                      "--microbatch-factors: 2 factors for 3 micro-batches");
}

TEST_CASE("a comparison gives every kind the same work", "[command][schedule]") {
  const Json out = schedule({"--compare", "1f1b,interleaved,zb-v,chimera", "--ranks", "4",
                             "--microbatches", "8", "--durations", "F=10,B=20"});
  const auto work = [&](const std::string& kind) {
    const Json& row = row_of(out, kind);
    return row["makespan"].get<double>() - row["bubble"][0].get<double>();
  };
  for (const char* kind : {"1f1b", "interleaved", "zb-v", "chimera"}) {
    REQUIRE(work(kind) == Approx(8 * 30));
  }
  REQUIRE(row_of(out, "interleaved")["bubble_formula"] == Approx(3 * 30 / 2.0));
  REQUIRE(row_of(out, "chimera")["parameter_copies"] == 2);

  const Json odd = schedule({"--compare", "1f1b,dualpipe", "--ranks", "4", "--microbatches", "7"});
  REQUIRE(row_of(odd, "dualpipe")["impossible"].get<std::string>().find("dualpipe: 7 micro") == 0);
  REQUIRE_THROWS_AS(
      schedule({"--compare", "dualpipe,chimera", "--ranks", "3", "--microbatches", "7"}),
      ImpossiblePlan);
}

TEST_CASE("an activation limit is kept or refused", "[command][schedule]") {
  const std::vector<std::string> limit{"--activation-limit", "3"};
  const Json searched = schedule_of("searched", 4, 8, limit);
  for (const Json& live : searched["peak_live_activations"]) REQUIRE(live <= 3);
  REQUIRE(searched["makespan_bound"] <= searched["makespan"]);
  REQUIRE_THROWS_AS(schedule_of("1f1b", 4, 8, limit), ImpossiblePlan);
  REQUIRE_THROWS_WITH(schedule_of("1f1b", 4, 8, limit),
                      "1f1b: keeps 4 chunks live on a rank; the activation limit is 3");
  REQUIRE_NOTHROW(schedule_of("1f1b", 3, 8, limit));
}

TEST_CASE("a schedule from a file is checked and timed", "[command][schedule]") {
  const TemporaryFile file("pipecast-schedule.txt");
  const auto of = [&](const std::string& text, std::vector<std::string> more = {}) {
    std::ofstream(file.path()) << text;
    more.insert(more.end(), {"--kind", "file:" + file.path()});
    return schedule(more);
  };
  const Json out = of("rank 0: F0.0 F0.1 B0.0 B0.1\nrank 1: F0.0 B0.0 F0.1 B0.1\n");
  REQUIRE(out["makespan"] == schedule_of("1f1b", 2, 2)["makespan"]);
  REQUIRE(out["bubble_formula"].is_null());
  REQUIRE_THROWS_WITH(of("rank 0: F0.0 B0.0 W0.0\n"),
                      file.path() + ": rank 0 does the work of W0.0 twice");
  REQUIRE_THROWS_AS(of("rank 0: F0.0 B0.0\n", {"--ranks", "2"}), ImpossiblePlan);
  REQUIRE_THROWS_AS(schedule({"--kind", "file:/no/such/file"}), Error);
}

TEST_CASE("a scenario gives its kind, shape, times and sizes", "[command][schedule]") {
  const Json out = schedule({"--from", kTiny});
  REQUIRE(out["kind"] == "dualpipe");
  REQUIRE(out["unit"] == "us");
  REQUIRE(out["ranks"] == 4);
  REQUIRE(out["peak_activation_bytes"].size() == 4);
  // The same schedule simulated on the cluster: balanced routing, nobody late.
  const Json step = run_command("run", {kTiny, "--mode", "folded"})["step"];
  double optimizer = 0;
  for (const Json& rank : step["ranks"]) {
    optimizer = std::max(optimizer, rank["breakdown_s"]["optimizer"].get<double>());
  }
  // Pairs of unequal stages take the mean, and messages meet all-to-alls only in the cluster.
  REQUIRE(out["makespan"].get<double>() * 1e-6 ==
          Approx(step["time_s"].get<double>() - optimizer).epsilon(0.05));
  const Json searched = schedule({"--from", kTiny, "--kind", "searched"});
  const Json plain = schedule({"--from", kTiny, "--kind", "1f1b"});
  REQUIRE(searched["makespan"].get<double>() <= plain["makespan"].get<double>());
  // Twice as many stages are laid out anew.
  REQUIRE(schedule({"--from", kTiny, "--kind", "zb-v"})["virtual_stages"] == 2);
}

TEST_CASE("what cannot be asked is refused", "[command][schedule]") {
  REQUIRE_THROWS_WITH(schedule({}), "a schedule needs a kind; expected --kind K or --compare K,K");
  REQUIRE_THROWS_WITH(schedule({"--kind", "1f1b"}),
                      "1f1b needs a shape; expected --ranks P and --microbatches M");
  REQUIRE_THROWS_WITH(
      schedule_of("1f1c", 2, 2),
      Catch::StartsWith("unknown schedule '1f1c', did you mean 1f1b?; known: 1f1b, "));
  REQUIRE_THROWS_WITH(schedule_of("1f1b", 0, 2), "--ranks: 0 is not within 1 and 4096");
  REQUIRE_THROWS_WITH(
      schedule_of("1f1b", 4096, 100'000),
      "100000 micro-batches on 4096 stages are 409600000 forwards; expected at most "
      "2000000");
  REQUIRE_THROWS_WITH(schedule_of("1f1b", 2, 2, {"--format", "png"}),
                      "--format: unknown 'png'; expected one of: text, summary, json, ascii, svg");
  REQUIRE_THROWS_WITH(schedule_of("1f1b", 2, 2, {"--virtual-stages", "2"}),
                      "2 virtual stages on a rank; this kind of schedule has 1");
  REQUIRE_THROWS_WITH(schedule({"--from", kTiny, "--ranks", "8"}),
                      "--ranks and --from exclude each other; expected --set plan.pp=8");
  REQUIRE_THROWS_WITH(schedule({"--from", kTiny, "--durations", kTicks}),
                      "--durations and --from exclude each other: the scenario has its times");
  REQUIRE_THROWS_WITH(schedule_of("1f1b", 2, 2, {"--set", "plan.pp=8"}),
                      "--set and --print-config change and show a scenario; expected --from "
                      "SCENARIO.yaml");
}
