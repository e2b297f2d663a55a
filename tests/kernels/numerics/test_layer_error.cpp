#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "kernels/numerics/layer_error.hpp"

namespace pipecast::kernels {
namespace {

using Catch::Matchers::Contains;

ReducedLayer tiny_layer() {
  return {.tokens = 32, .hidden = 128, .experts = 8, .outliers = {}, .seed = 1};
}

const LayerErrorStudy& tiny_study() {
  static const LayerErrorStudy kStudy(tiny_layer());
  return kStudy;
}

PrecisionRecipe recipe(std::string_view name) {
  for (const NamedRecipe& one : named_recipes()) {
    if (one.name == name) return one.recipe;
  }
  FAIL("no recipe " << name);
  return {};
}

}  // namespace

TEST_CASE("a recipe that rounds nothing is the layer in FP64", "[numerics]") {
  const LayerErrors errors = tiny_study().errors_of({});
  // Products of other order: FP64's own rounding.
  REQUIRE(errors.output < 1e-14);
  REQUIRE(errors.input_gradient < 1e-13);
  REQUIRE(errors.attention < 1e-13);
  REQUIRE(errors.experts < 1e-13);
  REQUIRE(errors.rerouted == 0);
}

TEST_CASE("a rounding reaches what comes after it alone", "[numerics]") {
  const LayerErrorStudy& study = tiny_study();
  const LayerErrors backward = study.errors_of(recipe("fp8-input-gradient"));
  REQUIRE(backward.output == 0);
  // The routing weights' gradient is that of a hidden row, behind the down projection's product.
  REQUIRE(backward.gate > 0.01);
  REQUIRE(backward.input_gradient > 0.01);
  const LayerErrors weights = study.errors_of(recipe("fp8-weight-gradient"));
  REQUIRE(weights.output == 0);
  REQUIRE(weights.input_gradient < 1e-13);
  REQUIRE(weights.norms < 1e-13);
  REQUIRE(weights.experts > 0.01);
  const LayerErrors attention = study.errors_of(recipe("e5m6-attention"));
  REQUIRE(attention.output == 0);
  REQUIRE(attention.experts < 1e-13);
  REQUIRE(attention.attention > 1e-4);
  const LayerErrors dispatch = study.errors_of(recipe("fp8-dispatch"));
  REQUIRE(dispatch.shared < 1e-13);  // never sent
  REQUIRE(dispatch.experts > 0.01);
}

TEST_CASE("coarser roundings make larger errors", "[numerics]") {
  const LayerErrorStudy& study = tiny_study();
  const LayerErrors bf16 = study.errors_of(recipe("bf16"));
  const LayerErrors fp8 = study.errors_of(recipe("fp8-products"));
  const LayerErrors e5m2 = study.errors_of(recipe("fp8-e5m2-gradients"));
  const LayerErrors everything = study.errors_of(recipe("deepseek-v3"));
  REQUIRE(bf16.output < fp8.output);
  REQUIRE(fp8.output == e5m2.output);
  REQUIRE(fp8.experts < e5m2.experts);
  REQUIRE(fp8.output < everything.output);
  // Half a last place of E4M3 is up to 2^-4 of a number, about a third of that in the mean square.
  // A layer has some ten such roundings behind each other, which add like random ones.
  REQUIRE(everything.output < std::sqrt(10.0) / 16 / 2);
}

TEST_CASE("a gate in FP8 chooses other experts more often than one in BF16", "[numerics]") {
  const LayerErrorStudy study(
      {.tokens = 256, .hidden = 128, .experts = 32, .outliers = {}, .seed = 1});
  const double precise = study.errors_of(recipe("gate-bf16")).rerouted;
  const double coarse = study.errors_of(recipe("gate-fp8")).rerouted;
  REQUIRE(coarse > 2 * precise);
  REQUIRE(coarse < 0.2);
}

TEST_CASE("layers that cannot be cut so small are refused", "[numerics]") {
  ReducedLayer layer = tiny_layer();
  layer.hidden = 100;
  REQUIRE_THROWS_WITH(LayerErrorStudy(layer), Contains("hidden size 100: a positive multiple"));
  layer = tiny_layer();
  layer.experts = 6;
  REQUIRE_THROWS_WITH(LayerErrorStudy(layer), Contains("6 experts: a multiple of 4"));
  layer = tiny_layer();
  layer.tokens = 0;
  REQUIRE_THROWS_WITH(LayerErrorStudy(layer), Contains("0 tokens: at least one"));
}

}  // namespace pipecast::kernels
