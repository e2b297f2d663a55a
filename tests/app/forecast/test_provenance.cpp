#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "app/forecast/provenance.hpp"
#include "app/forecast/step_operations.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Catch::StartsWith;

namespace {

Provenance provenance_of(const Scenario& scenario, const std::string& operation) {
  const std::vector<Provenance> all = pipecast::provenance_of(scenario, scenario.plan);
  const auto same = [&](const Provenance& p) { return p.operation == operation; };
  REQUIRE(std::count_if(all.begin(), all.end(), same) == 1);
  return *std::find_if(all.begin(), all.end(), same);
}

KernelEvidence& evidence(Scenario& scenario, const std::string& operation) {
  auto& kernels = scenario.calibration.kernels;
  const auto same = [&](const KernelEvidence& kernel) { return kernel.operation == operation; };
  const auto found = std::find_if(kernels.begin(), kernels.end(), same);
  REQUIRE(found != kernels.end());
  return *found;
}

}  // namespace

TEST_CASE("provenance has every operation that the step launches once, and no other",
          "[provenance]") {
  const Scenario s = tiny();
  std::set<std::string> expected = {"pipeline_transfer", "reduce_scatter", "all_gather"};
  for (const Operation& op : step_operations(s, s.plan, 1)) expected.emplace(op.op);
  std::set<std::string> found;
  for (const Provenance& p : pipecast::provenance_of(s, s.plan)) {
    CAPTURE(p.operation);
    REQUIRE(found.insert(p.operation).second);
    REQUIRE(!p.source.empty());
  }
  REQUIRE(found == expected);
  REQUIRE(found.count("attention_decode") == 0);  // training decodes nothing
}

TEST_CASE("an operation whose times were fitted is public, one without times is modelled",
          "[provenance]") {
  const Scenario s = tiny();
  const Provenance norm = provenance_of(s, "rmsnorm_fwd");
  REQUIRE(norm.kind == "public");
  REQUIRE_THAT(norm.source, Contains("traces/h800_dualpipe_chunk/kernels.csv"));
  const Provenance adamw = provenance_of(s, "adamw");
  REQUIRE(adamw.kind == "modelled");
  REQUIRE_THAT(adamw.source, StartsWith("no times of its own are fitted; its constant: "));
}

TEST_CASE("calibrated is what was timed on the device and decided by a constant fitted there",
          "[provenance]") {
  Scenario s = tiny();
  evidence(s, "rmsnorm_fwd").kind = Evidence::kCalibrated;
  evidence(s, "rmsnorm_fwd").source = "timed here";
  REQUIRE(provenance_of(s, "rmsnorm_fwd").kind == "public");
  REQUIRE_THAT(provenance_of(s, "rmsnorm_fwd").source,
               StartsWith("timed here, but its constant is public: "));
  s.calibration.memory.norm_cycles.kind = Evidence::kCalibrated;
  REQUIRE(provenance_of(s, "rmsnorm_fwd").kind == "calibrated");
  REQUIRE(provenance_of(s, "rmsnorm_fwd").source == "timed here");
  s.calibration.memory.norm_cycles.kind = Evidence::kModelled;
  REQUIRE(provenance_of(s, "rmsnorm_fwd").kind == "modelled");
}

TEST_CASE("times of another GPU make every operation modelled", "[provenance]") {
  Scenario s = tiny();
  s.calibration.gpu = "h800";
  for (const Provenance& p : pipecast::provenance_of(s, s.plan)) {
    CAPTURE(p.operation);
    REQUIRE(p.kind == "modelled");
  }
  REQUIRE_THAT(provenance_of(s, "rmsnorm_fwd").source, StartsWith("timed on h800, not on h100: "));
}

TEST_CASE("transfers outside the layers are there only where there is somebody to transfer to",
          "[provenance]") {
  Scenario s = tiny();
  PlanSpec alone = s.plan;
  alone.pp = 1;
  const auto names = [&] {
    std::set<std::string> out;
    for (const Provenance& p : pipecast::provenance_of(s, alone)) out.insert(p.operation);
    return out;
  };
  REQUIRE(names().count("pipeline_transfer") == 0);
  REQUIRE(names().count("all_gather") == 1);
  alone.pp = s.cluster.gpus();
  REQUIRE(names().count("pipeline_transfer") == 1);
  REQUIRE(names().count("all_gather") == 0);
}

TEST_CASE("the summary counts entries by kind and leaves out kinds without any", "[provenance]") {
  const auto of_kind = [](const char* kind) { return Provenance{"op", kind, "source"}; };
  REQUIRE(provenance_text({of_kind("modelled"), of_kind("public"), of_kind("modelled")}) ==
          "1 public, 2 modelled");
  REQUIRE(provenance_text({of_kind("calibrated")}) == "1 calibrated");
}
