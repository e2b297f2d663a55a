#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "app/config/load.hpp"

using namespace pipecast;

namespace {

std::vector<std::filesystem::path> files_in(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(config_directory() / folder))
    out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

std::filesystem::path shipped_scenario(const char* name) {
  return config_directory() / "scenarios" / name;
}

}  // namespace

TEST_CASE("every shipped scenario loads", "[config]") {
  REQUIRE(files_in("scenarios").size() >= 2);
  for (const auto& path : files_in("scenarios")) {
    CAPTURE(path);
    REQUIRE(load_scenario(path, {}).scenario.name == path.stem());
  }
}

TEST_CASE("every shipped GPU, model and calibration loads and bears its file's name", "[config]") {
  for (const auto& path : files_in("gpus")) REQUIRE(load_gpu(path).name == path.stem());
  for (const auto& path : files_in("models")) REQUIRE(load_model(path).name == path.stem());
  for (const auto& path : files_in("calibration"))
    REQUIRE(load_calibration(path).gpu == path.stem());
}

TEST_CASE("every shipped cluster can carry a scenario", "[config]") {
  for (const auto& path : files_in("clusters")) {
    CAPTURE(path);
    const LoadedScenario loaded = load_scenario(
        shipped_scenario("tiny-moe-h100.yaml"),
        {"cluster.extends=" + path.string(), "calibration.gpu=" + path.stem().string().substr(0, 4),
         "plan.pp=1", "plan.ep=8", "recipe.phases.0.global_batch_size=16384"});
    REQUIRE(std::to_string(loaded.scenario.cluster.gpus()) == path.stem().string().substr(5));
  }
}

TEST_CASE("PIPECAST_CONFIGS chooses another folder of shipped files", "[config]") {
  const auto built_in = config_directory();
  REQUIRE(std::filesystem::is_directory(built_in));
  ::setenv("PIPECAST_CONFIGS", "elsewhere", 1);
  const auto chosen = config_directory();
  ::unsetenv("PIPECAST_CONFIGS");
  REQUIRE(chosen == "elsewhere");
  REQUIRE(config_directory() == built_in);
}

TEST_CASE("the reference case is what was published", "[config]") {
  const Scenario s = load_scenario(shipped_scenario("deepseek-v3-h800.yaml"), {}).scenario;
  REQUIRE(s.cluster.gpus() == 2048);
  REQUIRE(s.data_parallel() == 128);  // 2,048 / 16
  // 132 SMs, 4,096 operations a clock, 1.83 GHz: the 989.4 TFLOP/s of the data sheet.
  const double bf16_peak = s.cluster.gpu.tensor_peak(Precision::kBf16, 132).count();
  REQUIRE(bf16_peak == Approx(989.4e12).epsilon(1e-4));
  REQUIRE(s.cluster.nic_per_gpu() == Bandwidth(50e9));  // 400 Gb/s
  REQUIRE(s.cluster.nic.latency + s.cluster.fabric.spine_latency == nanoseconds(3'700));
  REQUIRE(s.plan.pipeline_layout.size() == 16);
  REQUIRE(s.recipe.phases.size() == 4);
  REQUIRE(*s.recipe.phases[0].tokens + *s.recipe.phases[1].tokens == Tokens(14'800'000'000'000));
  REQUIRE(s.recipe.phases[1].global_batch_size->from / s.data_parallel() == 120);
  REQUIRE(s.recipe.phases[2].gpu_hours == 119'000);
  REQUIRE(s.cost_per_gpu_hour == Usd(2));
  REQUIRE(s.plan.recompute.layernorm);
  REQUIRE(s.plan.precision.attention_output == Precision::kE5m6);
}

TEST_CASE("a phase without a plan of its own has the scenario's", "[config]") {
  const Scenario s = load_scenario(shipped_scenario("deepseek-v3-h800.yaml"), {}).scenario;
  for (const PhaseSpec& phase : s.recipe.phases) {
    REQUIRE(phase.plan.pp == 16);
    REQUIRE(phase.plan.pipeline_layout == s.plan.pipeline_layout);
  }
}
