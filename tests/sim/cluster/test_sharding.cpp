#include <catch2/catch.hpp>

#include "model/arithmetic/parameters.hpp"
#include "scenarios.hpp"
#include "sim/cluster/step_plan.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("what ZeRO-2 and 3 move in chunks is not moved at the step's end", "[optimizer][zero]") {
  const std::string kind = GENERATE("1f1b", "zb-h1", "dualpipe");
  const Schedule schedule = make_schedule(kind, 4, 8);
  std::vector<StepPlan> plans;
  for (int zero = 0; zero <= 3; ++zero) {
    const Scenario s = tiny({"plan.zero_stage=" + std::to_string(zero)});
    plans.push_back(plan_step(s, s.plan, schedule, routing_of(s)));
  }
  for (std::size_t rank = 0; rank < 4; ++rank) {
    const auto at = [&](std::size_t zero) { return plans[zero].optimizer[rank]; };
    REQUIRE(at(1).reduce_scatter > Duration());
    REQUIRE(at(2).reduce_scatter == Duration());
    REQUIRE(at(2).all_gather == at(1).all_gather);
    REQUIRE(at(2).update == at(1).update);
    REQUIRE(at(3).reduce_scatter + at(3).all_gather == Duration());
    REQUIRE(at(3).nic_bytes + at(3).nvlink_bytes == Bytes());
    // Only the shard's own weights are cast to FP8.
    REQUIRE(at(3).update < at(2).update);
    const auto moves = [&](std::size_t zero) {
      Duration sum;
      for (const PlannedStep& step : plans[zero].steps[rank]) {
        sum += plans[zero].programs[static_cast<std::size_t>(step.program)].moves;
      }
      return sum;
    };
    REQUIRE(moves(0) + moves(1) == Duration());
    REQUIRE(moves(2) > Duration());
    REQUIRE(moves(3) > moves(2));
  }
}

TEST_CASE("a step takes longer the more of it is sharded, alike in full and folded mode",
          "[step][zero]") {
  const std::string kind = GENERATE("1f1b", "zb-h1", "dualpipe");
  Duration before;
  for (int zero = 1; zero <= 3; ++zero) {
    CAPTURE(kind, zero);
    const Scenario s = punctual(tiny({"plan.zero_stage=" + std::to_string(zero)}));
    const StepTimes folded = simulate(s, kind, 8);
    const StepTimes full = simulate(s, kind, 8, SimulationMode::kFull);
    REQUIRE(full.time == folded.time);
    REQUIRE(simulate(s, kind, 8).time == folded.time);
    Duration path;
    for (const CriticalShare& share : folded.critical_path) path += share.time;
    REQUIRE(path == folded.time);
    REQUIRE(folded.time > before);
    before = folded.time;
  }
}

TEST_CASE("an optimizer on the host takes what its state takes over PCIe, or AdamW if that is more",
          "[optimizer]") {
  const Schedule schedule = make_schedule("1f1b", 4, 8);
  const auto optimizer = [&](const Scenario& s) {
    return plan_step(s, s.plan, schedule, routing_of(s)).optimizer[1];
  };
  const OptimizerPlan device = optimizer(tiny());
  REQUIRE(device.pcie_bytes == Bytes());
  Scenario s = tiny({"plan.memory.optimizer=host"});
  const OptimizerPlan host = optimizer(s);
  const HeldParameters held = parameters_of_stage(s.model, s.plan.pipeline_layout[1], s.plan.ep);
  // 16 replicas, each its own expert-parallel rank; FP32 weights, two BF16 moments.
  const std::int64_t shard = ceil_div(held.replicated(), 16) + held.expert;
  REQUIRE(host.pcie_bytes == Bytes((4 + 2 + 2) * shard));
  Duration adamw;
  for (const WorkShare& share : device.work) {
    if (share.operation == "adamw") adamw = share.time;
  }
  const Duration over_pcie = host.pcie_bytes / s.cluster.pcie.bandwidth;
  REQUIRE(over_pcie > adamw);  // HBM is that much faster
  REQUIRE(host.update == device.update + over_pcie - adamw);
  s.cluster.pcie.bandwidth = Bandwidth(1e15);
  REQUIRE(optimizer(s).update == device.update);
}

TEST_CASE("a moving average costs the GPU time if it is kept there", "[optimizer]") {
  const Schedule schedule = make_schedule("1f1b", 4, 8);
  const auto update = [&](const std::string& place) {
    const Scenario s = tiny({"plan.memory.ema=" + place});
    return plan_step(s, s.plan, schedule, routing_of(s)).optimizer[1].update;
  };
  REQUIRE(update("host") == update("none"));
  REQUIRE(update("device") > update("none"));
}
