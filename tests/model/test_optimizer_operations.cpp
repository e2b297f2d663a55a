#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/operations/optimizer_operations.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("AdamW moves gradient, master weight and two moments of the shard", "[operations]") {
  PlanSpec plan = deepseek_v3_plan();
  const auto moments = GENERATE(Precision::kBf16, Precision::kFp32);
  plan.precision.moments = moments;
  const std::int64_t n = 1'000;
  const auto operations = optimizer_operations(plan, {.shard_parameters = n, .fp8_parameters = 7});
  REQUIRE(operations.size() == 3);
  const std::int64_t moment = moments == Precision::kBf16 ? 2 : 4;
  const std::int64_t state = 4 + 2 * moment;  // FP32 master weight, two moments
  REQUIRE(operations[0].op == "grad_norm");
  REQUIRE(operations[0].read == Bytes(4 * n));
  REQUIRE(operations[1].op == "adamw");
  REQUIRE(operations[1].read == Bytes((4 + state) * n));
  REQUIRE(operations[1].written == Bytes((state + 2) * n));  // and the BF16 weight to gather
  REQUIRE(operations[2].op == "cast_fp8_128x128");
  REQUIRE(operations[2].read == Bytes(2 * 7));
}

TEST_CASE("BF16 plans need no FP8 copies of the weights", "[operations]") {
  REQUIRE(optimizer_operations(bf16_plan(), {.shard_parameters = 1, .fp8_parameters = 1}).size() ==
          2);
}

TEST_CASE("a moving average on the GPU reads and writes one FP32 number per parameter",
          "[operations]") {
  constexpr std::int64_t n = 1000;
  PlanSpec plan = bf16_plan();
  plan.memory.ema = MemoryPlace::kDevice;
  const std::vector<Operation> operations =
      optimizer_operations(plan, {.shard_parameters = n, .fp8_parameters = 0});
  REQUIRE(operations.size() == 3);
  REQUIRE(operations[2].label == "ema");
  REQUIRE(operations[2].read == Bytes(4 * n));
  REQUIRE(operations[2].written == Bytes(4 * n));
  plan.memory.ema = MemoryPlace::kHost;
  REQUIRE(optimizer_operations(plan, {.shard_parameters = n, .fp8_parameters = 0}).size() == 2);
}

TEST_CASE("negative optimizer loads are refused", "[operations]") {
  REQUIRE_THROWS_WITH(
      optimizer_operations(bf16_plan(), {.shard_parameters = -1, .fp8_parameters = 0}),
      "the optimizer's load must not be negative: shard_parameters=-1 fp8_parameters=0");
}
