#include <catch2/catch.hpp>
#include <set>

#include "app/calibrate/extents.hpp"
#include "app/forecast/step_operations.hpp"
#include "model/ops/kernel_cost.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

std::vector<std::int64_t> values_of(const std::vector<NamedExtent>& extents) {
  std::vector<std::int64_t> out;
  for (const NamedExtent& extent : extents) out.push_back(extent.value);
  return out;
}

}  // namespace

TEST_CASE("the extents of a step's launches make them again, byte for byte", "[calibrate]") {
  const auto* const name = GENERATE("deepseek-v3-h800", "tiny-moe-h100", "lab/01-bubble");
  CAPTURE(name);
  const Scenario s = shipped(name);
  constexpr std::int64_t kParameters = 1 << 20;
  std::size_t made = 0;
  std::set<std::string> without;
  for (const Operation& operation : step_operations(s, s.plan, kParameters)) {
    CAPTURE(operation.op, operation.label);
    const auto extents = extents_of(operation);
    if (!extents) {
      without.insert(std::string(operation.op));
      continue;
    }
    ++made;
    const KernelKind& kind = Registry<KernelKind>::instance().find(operation.op);
    Operation again = kind.make(operation.op, values_of(*extents));
    REQUIRE(again.op == operation.op);
    REQUIRE(again.precision == operation.precision);
    REQUIRE(again.m == operation.m);
    REQUIRE(again.n == operation.n);
    REQUIRE(again.k == operation.k);
    REQUIRE(again.read == operation.read);
    REQUIRE(again.written == operation.written);
  }
  REQUIRE(made > 80);
  without.erase("ep_dispatch");
  without.erase("ep_combine");
  CAPTURE(without.size());
  // Formats that a plan chooses and no option of `pipecast kernel` names.
  for (const std::string& op : without) {
    CAPTURE(op);
    REQUIRE((op == "cast_transpose_fp8_128x1" || op == "swiglu_recompute_and_cast_transpose" ||
             op == "swiglu_bwd_shared" || op == "adamw"));
  }
}

TEST_CASE("a shape's text has the extents that have to be given", "[calibrate]") {
  REQUIRE(shape_text({{"m", 4096}, {"n", 7168}, {"groups", 1, true}, {"k", 2048}}) ==
          "m=4096 n=7168 k=2048");
  REQUIRE(shape_text({}).empty());
}
