#include <catch2/catch.hpp>

#include "scenarios.hpp"
#include "sim/cluster/step_plan.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("a searched schedule is ordered for the costs of its stages", "[step]") {
  PlanSpec plan;
  plan.pp = 2;
  plan.schedule = "searched";
  plan.activation_limit = 2;
  ScheduleCosts costs;
  for (const int slow : {1, 3}) {
    costs.passes.push_back({.forward = Duration(10 * slow),
                            .backward = Duration(25 * slow),
                            .backward_input = Duration(15 * slow),
                            .backward_weight = Duration(10 * slow),
                            .overlapped = Duration(35 * slow)});
  }
  const Schedule chosen = choose_schedule(plan, 6, [&] { return costs; }).schedule;
  const Schedule searched =
      Registry<ScheduleKind>::instance()
          .find("searched")
          .make({.ranks = 2, .microbatches = 6, .costs = costs, .activation_limit = 2});
  REQUIRE(chosen.ranks == searched.ranks);
  plan.schedule = "1f1b";
  REQUIRE_NOTHROW(choose_schedule(plan, 6, []() -> ScheduleCosts { throw Error("not asked"); }));
}

TEST_CASE("the plan's schedule runs where it can, its fallback where it cannot", "[plan]") {
  const PlanSpec plan = tiny().plan;  // four ranks, dualpipe with 1f1b to fall back on
  REQUIRE(choose_schedule(plan, 8).name == "dualpipe");
  REQUIRE(choose_schedule(plan, 7).name == "1f1b");  // odd
  REQUIRE(choose_schedule(plan, 6).name == "1f1b");  // fewer than 2 x ranks
}

TEST_CASE("without a fallback an impossible schedule says what it needs", "[plan]") {
  PlanSpec plan = tiny().plan;
  plan.fallback_schedule.clear();
  REQUIRE_THROWS_AS(choose_schedule(plan, 6), ImpossiblePlan);
  REQUIRE_THROWS_WITH(choose_schedule(plan, 6),
                      "dualpipe: 6 micro-batches on 4 ranks; it needs an even number of ranks and "
                      "an even number of micro-batches, at least 2 x ranks = 8");
}

TEST_CASE("every need is sent exactly once", "[plan][property]") {
  const Scenario s = tiny();
  const auto* const kind = GENERATE("1f1b", "dualpipe");
  const Schedule schedule = make_schedule(kind, s.plan.pp, 16);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  std::vector<int> sent(static_cast<std::size_t>(plan.ranks() * plan.slots));
  std::vector<int> needed(sent.size());
  const auto at = [&](int rank, int slot) {
    return static_cast<std::size_t>(rank * plan.slots + slot);
  };
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    for (const PlannedStep& step : plan.steps[static_cast<std::size_t>(rank)]) {
      for (const int slot : step.needs)
        if (slot >= 0) ++needed[at(rank, slot)];
      for (const PlannedSend& send : step.sends)
        if (send.rank >= 0) ++sent[at(send.rank, send.slot)];
    }
  }
  REQUIRE(sent == needed);
  for (const int times : sent) REQUIRE(times <= 1);
}

TEST_CASE("ranks that hold the same stages reduce their gradients together", "[plan]") {
  const Scenario s = tiny();
  const StepPlan one = plan_step(s, s.plan, make_schedule("1f1b", 4, 8), routing_of(s));
  REQUIRE(one.reduction_groups.size() == 4);
  const StepPlan dual = plan_step(s, s.plan, make_schedule("dualpipe", 4, 8), routing_of(s));
  REQUIRE(dual.reduction_groups == std::vector<std::vector<int>>{{0, 3}, {1, 2}});
}

TEST_CASE("stages of the same layers share their programs", "[plan]") {
  Scenario s = tiny();
  s.plan.pipeline_layout.assign(4, {LayerKind::kMoe});
  const StepPlan plan = plan_step(s, s.plan, make_schedule("1f1b", 4, 8), routing_of(s));
  REQUIRE(plan.programs.size() == 2);  // a forward and a backward
}

TEST_CASE("a message is a micro-batch of activations", "[plan]") {
  const Scenario s = shipped("deepseek-v3-h800");
  const StepPlan plan = plan_step(s, s.plan, make_schedule("1f1b", 16, 24), routing_of(s));
  REQUIRE(plan.message == Bytes(4096 * 7168 * 2));  // BF16
}

TEST_CASE("categories of time have the names of the contract", "[plan]") {
  std::vector<std::string_view> names;
  for (int c = 0; c < kTimeCategories; ++c) names.push_back(name_of(static_cast<TimeCategory>(c)));
  REQUIRE(names == std::vector<std::string_view>{"forward", "backward_input", "backward_full",
                                                 "backward_weight", "overlapped", "optimizer",
                                                 "communication_exposed", "bubble"});
}

TEST_CASE("ZeRO-1 updates a shard, without it every GPU updates all it holds", "[optimizer]") {
  const Scenario sharded = tiny();
  const Scenario whole = tiny({"plan.zero_stage=0"});
  const Schedule schedule = make_schedule("1f1b", 4, 8);
  const StepPlan a = plan_step(sharded, sharded.plan, schedule, routing_of(sharded));
  const StepPlan b = plan_step(whole, whole.plan, schedule, routing_of(whole));
  for (std::size_t rank = 0; rank < 4; ++rank) {
    REQUIRE(a.optimizer[rank].update < b.optimizer[rank].update);
    // Gradients in FP32 are reduced in both; gathered are BF16 parameters or the FP32 gradients.
    REQUIRE(a.optimizer[rank].reduce_scatter == b.optimizer[rank].reduce_scatter);
    REQUIRE(a.optimizer[rank].all_gather < b.optimizer[rank].all_gather);
    Duration work;
    for (const WorkShare& share : a.optimizer[rank].work) work += share.time;
    REQUIRE(work == a.optimizer[rank].update);
  }
}
