#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>

#include "app/config/load.hpp"
#include "model/schedules/plan_schedule.hpp"
#include "model/schedules/text.hpp"

using namespace pipecast;

namespace {

namespace fs = std::filesystem;

/// Two ranks hold a stage each of the way down and of the way up: a V, or a loop.
constexpr const char* kTwoRanks =
    "rank 0: F0.0 F1.0 B1.0 B0.0\n"
    "rank 1: F0.0 F1.0 B1.0 B0.0\n";

/// The tiny scenario with files beside it that exist only here, by their paths.
LoadedScenario load_with(const std::map<std::string, std::string>& files,
                         const std::vector<std::string>& sets = {}) {
  return load_scenario("here/scenario.yaml", sets, [&](const fs::path& path) {
    const auto it = files.find(path.string());
    return it == files.end() ? config::read_file(path) : it->second;
  });
}

const std::string kTiny =
    "extends: " + (config_directory() / "scenarios" / "tiny-moe-h100.yaml").string() + "\n";

}  // namespace

TEST_CASE("a schedule's file is relative to the file that names it", "[config][schedule]") {
  const LoadedScenario loaded =
      load_with({{"here/scenario.yaml", kTiny + "plan: { extends: plans/v.yaml }\n"},
                 {"here/plans/v.yaml", "pp: 2\nep: 32\nschedule: \"file:../v.txt\"\n"},
                 {"here/v.txt", kTwoRanks}});
  const PlanSpec& plan = loaded.scenario.plan;
  REQUIRE(plan.schedule == "file:here/v.txt");
  REQUIRE(plan.schedule_from_file != nullptr);
  REQUIRE(to_text(*plan.schedule_from_file) == kTwoRanks);
  REQUIRE(stages_per_rank(plan) == 2);
  REQUIRE(plan.pipeline_layout.size() == 4);
  REQUIRE(loaded.scenario.recipe.phases[0].plan.schedule_from_file == plan.schedule_from_file);

  // What is printed names it for the working directory, and loads to the same.
  const std::string printed = print_config(loaded);
  const LoadedScenario again = load_scenario("printed.yaml", {}, [&](const fs::path& path) {
    return path == "here/v.txt" ? std::string(kTwoRanks) : printed;
  });
  REQUIRE(config_json(again) == config_json(loaded));
  REQUIRE(again.scenario.plan.pipeline_layout == plan.pipeline_layout);
}

TEST_CASE("on the command line a schedule's file is relative to the working directory",
          "[config][schedule]") {
  const PlanSpec plan = load_with({{"here/scenario.yaml", kTiny}, {"v.txt", kTwoRanks}},
                                  {"plan.pp=2", "plan.ep=32", "plan.schedule=file:v.txt"})
                            .scenario.plan;
  REQUIRE(plan.schedule == "file:v.txt");
  REQUIRE(plan.pipeline_layout.size() == 4);
}

TEST_CASE("a schedule from a file runs with its own micro-batches alone", "[config][schedule]") {
  PlanSpec plan = load_with({{"here/scenario.yaml", kTiny}, {"v.txt", kTwoRanks}},
                            {"plan.pp=2", "plan.ep=32", "plan.schedule=file:v.txt"})
                      .scenario.plan;
  REQUIRE(choose_schedule(plan, 1).name == "file:v.txt");
  REQUIRE(to_text(choose_schedule(plan, 1).schedule) == kTwoRanks);
  const std::string differs = "file:v.txt: has 1 micro-batches on 2 ranks; the step has 3 on 2";
  REQUIRE_THROWS_AS(choose_schedule(plan, 3), ImpossiblePlan);
  // The fallback of the scenario has one stage on a rank, the layout two.
  REQUIRE_THROWS_WITH(
      choose_schedule(plan, 3),
      Catch::StartsWith(differs + "; the fallback_schedule 1f1b cannot take its place, because the "
                                  "layout has 2 stages on a rank; expected one of: "));
  plan.fallback_schedule.clear();
  REQUIRE_THROWS_WITH(choose_schedule(plan, 3), differs);
}

TEST_CASE("a layout with too few stages for the schedule says what helps", "[config][schedule]") {
  REQUIRE_THROWS_WITH(
      load_with({{"here/scenario.yaml", kTiny}, {"v.txt", kTwoRanks}},
                {"plan.pp=2", "plan.ep=32", "plan.schedule=file:v.txt",
                 "plan.pipeline_layout=[embedding dense moe*5, moe*6 head mtp head]"}),
      Catch::EndsWith("has 2 stages; the schedule puts 2 on each of the pp = 2 pipeline ranks: "
                      "expected 4, or auto (--set plan.pipeline_layout=auto)"));
}

TEST_CASE("only a searched schedule takes an activation limit", "[config][schedule]") {
  const auto limit = [](const std::vector<std::string>& sets) {
    return load_with({{"here/scenario.yaml", kTiny}}, sets).scenario.plan.activation_limit;
  };
  REQUIRE_FALSE(limit({}));
  REQUIRE(limit({"plan.schedule=searched", "plan.activation_limit=3"}) == 3);
  REQUIRE_THROWS_WITH(limit({"plan.activation_limit=3"}),
                      "--set plan.activation_limit=3: plan.activation_limit: schedule dualpipe is "
                      "not searched, so nothing can be limited; expected none");
}

TEST_CASE("vpp is the kind's own number where it is left out or null", "[config][schedule]") {
  const auto vpp = [](const std::vector<std::string>& sets) {
    return load_with({{"here/scenario.yaml", kTiny}}, sets).scenario.plan.vpp;
  };
  REQUIRE_FALSE(vpp({}));
  REQUIRE_FALSE(vpp({"plan.vpp=null"}));
  REQUIRE(vpp({"plan.vpp=1"}) == 1);  // what dualpipe has in any case
  REQUIRE_THROWS_WITH(vpp({"plan.vpp=2"}),
                      "--set plan.vpp=2: plan.vpp: 2 stages on a rank; schedule dualpipe always "
                      "has 1");
}

TEST_CASE("a file with a schedule is read and checked", "[config][schedule]") {
  const fs::path path = fs::temp_directory_path() / "pipecast_schedule.txt";
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write(kTwoRanks);
  REQUIRE(to_text(load_schedule(path)) == kTwoRanks);
  write("rank 0: F0.0\nrank 1: F0.0 B0.0\n");
  REQUIRE_THROWS_WITH(load_schedule(path), path.string() + ": rank 0 never runs B0.0");
  write("rank 0: X\n");
  REQUIRE_THROWS_WITH(load_schedule(path), Catch::StartsWith(path.string() + ":1:9: got 'X'"));
  fs::remove(path);
  REQUIRE_THROWS_WITH(load_schedule(path), path.string() + ": cannot be read: no such file");
}
