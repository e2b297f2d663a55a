#include <catch2/catch.hpp>
#include <set>

#include "app/memory/fixes.hpp"
#include "app/report/fixes_report.hpp"
#include "program/program.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Catch::StartsWith;

namespace {

using Sets = std::vector<std::string>;

const FixOptions kFolded{.mode = SimulationMode::kFolded};

Sets joined(Sets base, const Sets& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

FixSearch fixes_of(const Sets& base) {
  return find_fixes(
      tiny(base), [&](const Sets& changes) { return tiny(joined(base, changes)); }, kFolded);
}

/// What the fullest rank needs in any step of the recipe, by simulating it.
FullestRank simulated_fullest(const Scenario& s) {
  const Forecast result = forecast(s, {.mode = SimulationMode::kFolded});
  return fullest_rank(result.memory, result.memory_capacity);
}

/// tiny-moe with so little memory that the plan lacks this much.
Sets lacking(Bytes bytes, Sets base = {}) {
  const FullestRank fullest = recipe_memory(tiny(base), SimulationMode::kFolded, 1).fullest;
  base.push_back(fmt::format("cluster.gpu.hbm_capacity={}B",
                             (fullest.peak.total() + MemoryPlanSpec().reserve - bytes).count()));
  return base;
}

/// Nothing is saved where nothing can be.
const Sets kHopeless = {"cluster.gpu.hbm_capacity=3GB"};

}  // namespace

TEST_CASE("every change that is listed makes the plan fit", "[fixes]") {
  const Sets base = GENERATE(lacking(Bytes(1)), lacking(Bytes(500'000'000)),
                             lacking(Bytes(1), {"plan.recompute_modules=none"}),
                             lacking(Bytes(1), {"plan.zero_stage=0", "plan.micro_batch_size=4"}));
  CAPTURE(base);
  REQUIRE_THROWS_AS(forecast(tiny(base), {.mode = SimulationMode::kFolded}), DoesNotFit);
  const FixSearch search = fixes_of(base);
  REQUIRE(!search.fixes.empty());
  REQUIRE(search.fixes.size() <= 6);
  REQUIRE(search.tried <= 40);
  Duration last;
  for (const Fix& fix : search.fixes) {
    CAPTURE(fix.sets);
    const Scenario changed = tiny(joined(base, fix.sets));
    const Forecast result = forecast(changed, {.mode = SimulationMode::kFolded});
    REQUIRE(result.step.times.time == fix.step);
    const FullestRank fullest = fullest_rank(result.memory, result.memory_capacity);
    REQUIRE(fullest.fits());
    REQUIRE(fullest.peak == fix.fullest.peak);
    REQUIRE(fullest.rank == fix.fullest.rank);
    REQUIRE(fix.step >= last);
    last = fix.step;
  }
}

TEST_CASE("peaks of a planned step are those of the simulated one", "[fixes]") {
  const auto* const schedule = GENERATE("1f1b", "dualpipe", "zb-h1", "gpipe");
  const Scenario s = tiny({fmt::format("plan.schedule={}", schedule)});
  const SimulationMode mode = GENERATE(SimulationMode::kFolded, SimulationMode::kFull);
  const StepRouting routing = step_routing(s, s.plan, 1);
  const StepMemory planned =
      step_memory(s, s.plan, planned_step(s, s.plan, 512, routing, mode), routing, mode);
  const StepMemory simulated =
      step_memory(s, s.plan, forecast_step(s, s.plan, 512, routing, mode), routing, mode);
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    REQUIRE(planned.peak(rank).totals == simulated.peak(rank).totals);
    REQUIRE(planned.peak(rank).step == simulated.peak(rank).step);
  }
}

TEST_CASE("a ramp's ends need as much memory as all its batches", "[fixes]") {
  Scenario s = tiny({fmt::format("plan.fallback_schedule={}", GENERATE("1f1b", "gpipe"))});
  PhaseSpec ramp = s.recipe.phases.front();
  ramp.name = "ramp";
  ramp.tokens = Tokens(1'000'000'000);
  ramp.global_batch_size = BatchRamp{.from = 32, .to = 512, .increment = 32};
  s.recipe.phases.insert(s.recipe.phases.begin(), ramp);
  const StepRouting routing = step_routing(s, s.plan, 1);
  Bytes most;
  for (const int size : batch_sizes(*ramp.global_batch_size)) {
    const StepForecast step = planned_step(s, s.plan, size, routing, SimulationMode::kFolded);
    const StepMemory memory = step_memory(s, s.plan, step, routing, SimulationMode::kFolded);
    most = std::max(most, fullest_rank(memory, {}).peak.total());
  }
  REQUIRE(recipe_memory(s, SimulationMode::kFolded, 1).fullest.peak.total() == most);
}

TEST_CASE("where nothing fits the best is named, with what it lacks", "[fixes]") {
  const FixSearch search = fixes_of(kHopeless);
  REQUIRE(search.fixes.empty());
  REQUIRE(search.pairs);
  REQUIRE(search.tried <= 40);
  const RecipeMemory best =
      recipe_memory(tiny(joined(kHopeless, search.closest)), SimulationMode::kFolded, 1);
  REQUIRE(best.fullest.missing() == search.missing);
  REQUIRE_THAT(fixes_text(search), StartsWith("None of ") && Contains("still lacks ") &&
                                       Contains(search.closest.front()));
  REQUIRE(fixes_json(search)["closest"]["missing_bytes"] == search.missing.count());
}

TEST_CASE("two changes are tried where one is not enough", "[fixes]") {
  const FixSearch hopeless = fixes_of(kHopeless);
  const Sets base = {
      fmt::format("cluster.gpu.hbm_capacity={}B",
                  tiny(kHopeless).cluster.gpu.hbm_capacity.count() + hopeless.missing.count())};
  const FixSearch search = fixes_of(base);
  REQUIRE(search.pairs);
  REQUIRE(search.fixes.size() == 1);  // what lacked least now fits to the last byte
  REQUIRE(search.fixes.front().sets == hopeless.closest);
  REQUIRE(search.fixes.front().fullest.missing() == Bytes());
  REQUIRE(simulated_fullest(tiny(joined(base, hopeless.closest))).missing() == Bytes());
  std::set<std::string> keys;
  for (const std::string& set : hopeless.closest) keys.insert(set.substr(0, set.find('=')));
  REQUIRE(keys.size() == hopeless.closest.size());
  REQUIRE_THAT(fixes_text(search), StartsWith("No single change makes it fit. Each simulated"));
}

TEST_CASE("changes that the loader or the schedule refuses are left out", "[fixes]") {
  const Sets base = lacking(Bytes(1));
  const auto refused_unless = [&](const Sets& allowed) {
    return find_fixes(
        tiny(base),
        [&](const Sets& changes) {
          if (changes != allowed) throw ImpossiblePlan("cannot run");
          return tiny(joined(base, changes));
        },
        kFolded);
  };
  const FixSearch one = refused_unless({"plan.schedule=1f1b"});
  REQUIRE(one.tried == 1);
  REQUIRE(one.fixes.size() == 1);
  REQUIRE(one.fixes.front().sets == Sets{"plan.schedule=1f1b"});
  const FixSearch none = refused_unless({});
  REQUIRE(none.tried == 0);
  REQUIRE(none.fixes.empty());
  REQUIRE(none.closest.empty());
  REQUIRE_THAT(fixes_text(none), StartsWith("No change ") && Contains("can run"));
}

TEST_CASE("only what the plan does not do yet is tried", "[fixes]") {
  std::vector<Sets> asked;
  const Sets base = lacking(Bytes(1), {"plan.recompute_modules=[moe_act]", "plan.schedule=1f1b",
                                       "plan.precision={gemm: fp8-block, moments: fp32}"});
  find_fixes(
      tiny(base),
      [&](const Sets& changes) {
        asked.push_back(changes);
        return tiny(joined(base, changes));
      },
      kFolded);
  const auto tried = [&](const std::string& set) {
    return std::any_of(asked.begin(), asked.end(),
                       [&](const Sets& sets) { return sets.front() == set; });
  };
  REQUIRE(tried("plan.recompute_modules=[moe_act,layernorm]"));
  REQUIRE(tried("plan.recompute_modules=[moe_act,layernorm,mla_up_proj,core_attn]"));
  REQUIRE(tried("plan.recompute_modules=full"));
  REQUIRE(tried("plan.zero_stage=2"));
  REQUIRE(tried("plan.precision.moments=bf16"));
  REQUIRE(tried("plan.memory.optimizer=host"));
  REQUIRE(tried("plan.micro_batch_size=1"));
  REQUIRE(tried("plan.ep=32"));
  REQUIRE(tried("plan.pp=8"));
  REQUIRE(!tried("plan.zero_stage=1"));
  REQUIRE(!tried("plan.schedule=1f1b"));
  REQUIRE(!tried("plan.precision.attention_output=e5m6"));
  REQUIRE(!tried("plan.precision.activations=fp8"));
}

TEST_CASE("a schedule with two copies of the parameters is offered one with a single copy",
          "[fixes]") {
  bool offered = false;
  const Sets base = lacking(Bytes(1));
  find_fixes(
      tiny(base),
      [&](const Sets& changes) {
        offered = offered || changes == Sets{"plan.schedule=1f1b"};
        return tiny(joined(base, changes));
      },
      kFolded);
  REQUIRE(offered);
}

TEST_CASE("the same search gives the same text", "[fixes]") {
  const Sets base = lacking(Bytes(1));
  REQUIRE(fixes_text(fixes_of(base)) == fixes_text(fixes_of(base)));
  const nlohmann::ordered_json json = fixes_json(fixes_of(base));
  REQUIRE(json["closest"].is_null());
  REQUIRE(json["fixes"].size() > 0);
  for (const auto& fix : json["fixes"]) REQUIRE(fix["peak_bytes"] <= fix["capacity_bytes"]);
}

TEST_CASE("run exits with 1, prints no result and says what would help", "[fixes][program]") {
  const TemporaryFolder folder;
  const std::string plan =
      "configs/scenarios/tiny-moe-h100.yaml --mode folded --set " + lacking(Bytes(1)).back();
  const Outcome refused = run_program("run " + plan + " --json - --out " + folder.path());
  REQUIRE(refused.code == 1);
  REQUIRE(refused.out.empty());
  REQUIRE(std::filesystem::is_empty(folder.path()));
  REQUIRE_THAT(refused.err, StartsWith("impossible plan: pipeline rank ") &&
                                Contains("change that makes it fit"));
  // The first line of the table, as it stands there.
  const std::size_t first = refused.err.find("\n--set ") + 1;
  const std::string options = refused.err.substr(first, refused.err.find("  ", first) - first);
  CAPTURE(options);
  REQUIRE(run_program("run " + plan + " --quiet " + options).code == 0);
}
