#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <set>

#include "app/chunk/chunk_run.hpp"
#include "app/chunk/chunk_tuning.hpp"
#include "app/config/load.hpp"
#include "base/error.hpp"

using namespace pipecast;

namespace {

Scenario shipped() {
  return load_scenario(PIPECAST_SOURCE_DIR "/configs/scenarios/deepseek-v3-h800.yaml", {}).scenario;
}

const auto kIgnore = [](double) {};

}  // namespace

TEST_CASE("launch orders are all orders of computation that are legal, once each", "[tuning]") {
  const PhaseOrder own = OverlapSpec{}.order;
  const std::vector<PhaseOrder> orders = launch_orders(own);
  // attn(F), mlp(F) among mlp(B), {mlp(W), attn(B), attn(W)}: 6 over 2 ways to place the two, times
  // 3 places of mlp(W) behind mlp(B).
  REQUIRE(orders.size() == 15 * 3);
  REQUIRE(orders.front() == own);
  REQUIRE(std::set<PhaseOrder>(orders.begin(), orders.end()).size() == orders.size());
  for (const PhaseOrder& order : orders) REQUIRE(is_launch_order(order));
}

TEST_CASE("an order that lacks a phase or needs what comes later is none", "[tuning]") {
  const PhaseOrder legal = OverlapSpec{}.order;
  PhaseOrder twice = legal;
  twice[0] = twice[1];
  REQUIRE_FALSE(is_launch_order(twice));
  PhaseOrder reversed = legal;
  std::reverse(reversed.begin(), reversed.end());
  REQUIRE_FALSE(is_launch_order(reversed));
}

TEST_CASE("the best split is the lowest point of the curve", "[tuning]") {
  const Scenario scenario = shipped();
  const ChunkShape shape = chunk_shape(scenario, {.kind = ChunkKind::kOverlapped, .layers = 1});
  std::atomic<double> furthest = 0;
  const ChunkTuning tuning = tune_chunk(scenario, shape, Duration(), [&](double fraction) {
    if (fraction > furthest) furthest = fraction;
  });
  REQUIRE(furthest == 1);
  REQUIRE(tuning.curve.size() == 32);  // 2, 4, ... 64
  for (std::size_t i = 0; i < tuning.curve.size(); ++i) {
    REQUIRE(tuning.curve[i].communication_sms == 2 * static_cast<int>(i + 1));
    REQUIRE(tuning.curve[i].time >= tuning.best.time);
  }
  REQUIRE(tuning.engine.communication_sms == 0);
  REQUIRE(tuning.plan.communication_sms == scenario.plan.communication_sms);
  REQUIRE(tuning.plan.time == run_chunk(scenario, shape, Duration()).time);
  // The curve has the plan's own order among those that it chose from.
  const auto same = std::find_if(
      tuning.curve.begin(), tuning.curve.end(),
      [&](const TuningPoint& p) { return p.communication_sms == tuning.plan.communication_sms; });
  REQUIRE(same->time <= tuning.plan.time);
}

TEST_CASE("a chunk of one pass is tuned in its one order", "[tuning]") {
  const Scenario scenario = shipped();
  const ChunkShape shape = chunk_shape(scenario, {.kind = ChunkKind::kForward, .layers = 1});
  const ChunkTuning tuning = tune_chunk(scenario, shape, Duration(), kIgnore);
  REQUIRE(tuning.orders == 1);
  REQUIRE(tuning.curve.size() == 32);
}

TEST_CASE("a plan that exchanges nothing has nothing to tune", "[tuning]") {
  Scenario scenario = shipped();
  scenario.plan.ep = 1;
  const ChunkShape shape = chunk_shape(scenario, {});
  REQUIRE_THROWS_WITH(
      tune_chunk(scenario, shape, Duration(), kIgnore),
      "--tune-sms: with plan.ep = 1 no tokens are exchanged, so that no SMs communicate");
  scenario = shipped();
  scenario.cluster.gpu.sm_count = 5;
  REQUIRE_THROWS_WITH(tune_chunk(scenario, shape, Duration(), kIgnore),
                      "--tune-sms: a GPU of 5 SMs cannot be divided");
}
