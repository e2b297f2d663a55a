#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "base/error.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/memory/model_instance.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const Bytes kUsable(84'943'110'144 - 4'000'000'000);  // of an 80 GB H800

InstanceRecipe recipe(const std::string& name) {
  for (const InstanceRecipe& r : instance_recipes()) {
    if (r.name == name) return r;
  }
  FAIL("no recipe " << name);
  return {};
}

InstanceMemory deepseek(const std::string& name, MtpModules mtp = MtpModules::kExcluded) {
  return instance_memory(deepseek_v3(), recipe(name), mtp);
}

}  // namespace

TEST_CASE("an instance has every parameter once", "[memory][instance]") {
  const ParameterCount p = count_parameters(deepseek_v3());
  const std::int64_t main = p.total + p.norms + p.router_bias;
  REQUIRE(instance_parameters(deepseek_v3()) == main);
  REQUIRE(static_cast<double>(main) == Approx(671.0e9).margin(0.05e9));  // README_WEIGHTS
  REQUIRE(instance_parameters(deepseek_v3(), MtpModules::kIncluded) ==
          main + p.mtp + p.mtp_vectors);
}

TEST_CASE("a BF16 parameter needs 18 bytes to train, 16 with BF16 gradients, 2 to serve",
          "[memory][instance]") {
  const auto mtp = GENERATE(MtpModules::kExcluded, MtpModules::kIncluded);
  const std::int64_t n = instance_parameters(deepseek_v3(), mtp);
  const InstanceMemory mixed = deepseek("bf16-mixed", mtp);
  REQUIRE(mixed.weights == Bytes(2 * n));
  REQUIRE(mixed.gradients == Bytes(4 * n));
  REQUIRE(mixed.optimizer == Bytes((4 + 4 + 4) * n));
  REQUIRE(mixed.total() == Bytes(18 * n));
  REQUIRE(deepseek("bf16-mixed-bf16-gradients", mtp).total() == Bytes(16 * n));
  REQUIRE(deepseek("bf16-inference", mtp).total() == Bytes(2 * n));
}

TEST_CASE("DeepSeek-V3's recipe is FP8 with scales where products are", "[memory][instance]") {
  const ParameterCount p = count_parameters(deepseek_v3());
  const std::int64_t n = p.total + p.norms + p.router_bias;
  const std::int64_t high = p.embedding + p.head + 58 * p.router + p.norms + p.router_bias;
  // All extents are multiples of 128 but kv_a's 576 rows, which begin a fifth row of blocks.
  const std::int64_t blocks =
      (n - high - 61 * p.attention.kv_a) / (128 * 128) + 61 * 5 * (7168 / 128);
  const InstanceMemory memory = deepseek("deepseek-v3-fp8");
  REQUIRE(memory.weights == Bytes(n - high + 4 * blocks + 2 * high));
  REQUIRE(memory.gradients == Bytes(4 * n));
  REQUIRE(memory.optimizer == Bytes((4 + 2 + 2) * n));
  REQUIRE(static_cast<double>(memory.total().count()) / static_cast<double>(n) ==
          Approx(13).margin(0.01));
  const InstanceMemory served = deepseek("fp8-inference");
  REQUIRE(served.total() == memory.weights);
  REQUIRE_FALSE(recipe("fp8-inference").trains());
  REQUIRE(recipe("deepseek-v3-fp8").trains());
}

TEST_CASE("each stage of ZeRO shards one thing more", "[memory][instance][property]") {
  const std::string name = GENERATE("bf16-mixed", "deepseek-v3-fp8", "bf16-inference");
  const std::int64_t gpus = GENERATE(1, 7, 64, 2048);
  const InstanceMemory whole = deepseek(name);
  const auto part = [&](Bytes bytes) { return Bytes(ceil_div(bytes.count(), gpus)); };
  REQUIRE(sharded_memory(whole, 0, gpus).total() == whole.total());
  const InstanceMemory one = sharded_memory(whole, 1, gpus);
  REQUIRE(one.weights == whole.weights);
  REQUIRE(one.gradients == whole.gradients);
  REQUIRE(one.optimizer == part(whole.optimizer));
  const InstanceMemory two = sharded_memory(whole, 2, gpus);
  REQUIRE(two.weights == whole.weights);
  REQUIRE(two.gradients == part(whole.gradients));
  REQUIRE(two.optimizer == part(whole.optimizer));
  const InstanceMemory three = sharded_memory(whole, 3, gpus);
  REQUIRE(three.weights == part(whole.weights));
  REQUIRE(three.gradients == part(whole.gradients));
  REQUIRE(three.optimizer == part(whole.optimizer));
}

TEST_CASE("ZeRO's own example: 7.5 B parameters over 64 GPUs", "[memory][instance]") {
  // Rajbhandari et al. 2020 (arXiv 1910.02054), Figure 1: 120 GB, 31.4, 16.6 and 1.9 GB for 2 + 2 +
  // 12 bytes a parameter.
  const std::int64_t n = 7'500'000'000;
  const InstanceMemory whole = {
      .weights = Bytes(2 * n), .gradients = Bytes(2 * n), .optimizer = Bytes(12 * n)};
  const auto gigabytes = [&](int stage) {
    return static_cast<double>(sharded_memory(whole, stage, 64).total().count()) / 1e9;
  };
  REQUIRE(gigabytes(0) == Approx(120));
  REQUIRE(gigabytes(1) == Approx(31.4).margin(0.05));
  REQUIRE(gigabytes(2) == Approx(16.6).margin(0.05));
  REQUIRE(gigabytes(3) == Approx(1.9).margin(0.05));
}

TEST_CASE("the fewest GPUs fit and one less does not", "[memory][instance][property]") {
  const int stage = GENERATE(1, 2, 3);
  const std::string name = GENERATE("bf16-mixed", "deepseek-v3-fp8", "bf16-inference");
  const Bytes usable(GENERATE(as<std::int64_t>{}, 80'000'000'000, 1'400'000'000'000,
                              5'000'000'000'000, 100'000'000'000'000));
  const InstanceMemory whole = deepseek(name);
  const std::optional<std::int64_t> gpus = fewest_gpus(whole, stage, usable);
  CAPTURE(stage, name, usable.count(), gpus.value_or(-1));
  if (!gpus) {
    // Not even with nothing of what is sharded.
    REQUIRE(sharded_memory(whole, stage, whole.total().count()).total() > usable);
    return;
  }
  REQUIRE(sharded_memory(whole, stage, *gpus).total() <= usable);
  if (*gpus > 1) REQUIRE(sharded_memory(whole, stage, *gpus - 1).total() > usable);
}

TEST_CASE("64 GPUs of 80 GB cannot hold what training DeepSeek-V3 keeps", "[memory][instance]") {
  for (const char* const name : {"bf16-mixed", "bf16-mixed-bf16-gradients", "deepseek-v3-fp8"}) {
    const InstanceMemory whole = deepseek(name);
    CAPTURE(name);
    for (int stage = 0; stage <= 3; ++stage) {
      REQUIRE(sharded_memory(whole, stage, 64).total() > kUsable);
    }
    // Weights and gradients alone pass a GPU, so that ZeRO-1 and 2 do not help by themselves.
    REQUIRE_FALSE(fewest_gpus(whole, 1, kUsable));
    REQUIRE_FALSE(fewest_gpus(whole, 2, kUsable));
    REQUIRE(fewest_gpus(whole, 3, kUsable) == ceil_div(whole.total().count(), kUsable.count()));
    REQUIRE(*fewest_gpus(whole, 3, kUsable) > 64);
  }
  // 13 bytes of each of 671 B parameters, where 64 such GPUs have room for less than 8.
  REQUIRE(64 * kUsable < Bytes(8 * instance_parameters(deepseek_v3())));
  REQUIRE(sharded_memory(deepseek("deepseek-v3-fp8"), 3, 128).total() < kUsable);
}

TEST_CASE("what does not exist is refused", "[memory][instance]") {
  const InstanceMemory whole = {.weights = Bytes(10)};
  REQUIRE_THROWS_WITH(sharded_memory(whole, 4, 8), "there is no ZeRO stage 4; it is 0, 1, 2 or 3");
  REQUIRE_THROWS_WITH(sharded_memory(whole, 1, 0), "an instance cannot be sharded over 0 GPUs");
  REQUIRE_THROWS_WITH(fewest_gpus(whole, -1, Bytes(1)),
                      "there is no ZeRO stage -1; it is 0, 1, 2 or 3");
  REQUIRE_THROWS_WITH(fewest_gpus(whole, 3, Bytes(0)), "a GPU needs usable bytes, not 0");
  REQUIRE(fewest_gpus(whole, 0, Bytes(10)) == 1);
  REQUIRE_FALSE(fewest_gpus(whole, 0, Bytes(9)));
  REQUIRE(fewest_gpus(whole, 1, Bytes(10)) == 1);  // nothing to shard
}
