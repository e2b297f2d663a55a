#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

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

std::filesystem::path reference_case() { return shipped_scenario("deepseek-v3-h800.yaml"); }

}  // namespace

TEST_CASE("every shipped scenario loads and bears its file's name", "[config]") {
  const std::vector<std::string> names = shipped_names("scenarios");
  for (const char* const name : {"deepseek-v3-h800", "tiny-moe-h100", "what-if/no-overlap"}) {
    REQUIRE(std::find(names.begin(), names.end(), name) != names.end());
  }
  for (const std::string& name : names) {
    CAPTURE(name);
    const auto path = shipped_scenario((name + ".yaml").c_str());
    REQUIRE(load_scenario(path, {}).scenario.name == path.stem());
  }
}

TEST_CASE("a what-if is the reference case with the keys changed that it is about", "[config]") {
  using Keys = std::vector<std::string>;
  const std::map<std::string, Keys> changed = {
      {"no-overlap", {"/plan/overlap/communication", "/plan/overlap/weight_gradient_streams"}},
      {"communication-coprocessor", {"/plan/communication_sms"}},
      {"full-precision-accumulation", {"/cluster/gpu/fp8_full_accumulation"}},
      {"native-tile-scaling", {"/cluster/gpu/fp8_native_scaling"}},
      {"no-promotion", {"/cluster/gpu/fp8_full_accumulation", "/cluster/gpu/fp8_native_scaling"}},
      {"h100-nvlink", {"/cluster/nvlink/bandwidth"}},
      {"double-infiniband", {"/cluster/nic/bandwidth", "/cluster/pcie/bandwidth"}},
      {"half-hbm", {"/cluster/gpu/hbm_bandwidth"}},
  };
  const nlohmann::json reference = config_json(load_scenario(reference_case(), {}));
  for (const std::string& name : shipped_names("scenarios/what-if")) {
    CAPTURE(name);
    nlohmann::json what_if =
        config_json(load_scenario(shipped_scenario(("what-if/" + name + ".yaml").c_str()), {}));
    what_if["name"] = reference["name"];
    Keys keys;
    for (const auto& difference : nlohmann::json::diff(reference, what_if)) {
      REQUIRE(difference["op"] == "replace");
      keys.push_back(difference["path"]);
    }
    std::sort(keys.begin(), keys.end());
    REQUIRE(keys == changed.at(name));
  }
  REQUIRE(shipped_names("scenarios/what-if").size() == changed.size());
}

TEST_CASE("the what-ifs change by the factors that they say", "[config]") {
  const auto load = [](const std::string& name) {
    return load_scenario(shipped_scenario((name + ".yaml").c_str()), {}).scenario;
  };
  const ClusterSpec h800 = load("deepseek-v3-h800").cluster;
  const ClusterSpec infiniband = load("what-if/double-infiniband").cluster;
  REQUIRE(infiniband.nic_per_gpu() == h800.nic_per_gpu() * 2);
  REQUIRE(infiniband.pcie.bandwidth == h800.pcie.bandwidth * 2);
  REQUIRE(load("what-if/half-hbm").cluster.gpu.hbm_bandwidth * 2 == h800.gpu.hbm_bandwidth);
  REQUIRE(load("what-if/h100-nvlink").cluster.nvlink.bandwidth ==
          load_cluster(config_directory() / "clusters/h100-8.yaml").nvlink.bandwidth);
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

TEST_CASE("another GPU's calibration is taken only where the scenario says so", "[config]") {
  const std::filesystem::path tiny = shipped_scenario("tiny-moe-h100.yaml");
  REQUIRE_THROWS_WITH(load_scenario(tiny, {"calibration.gpu=h800"}),
                      Catch::Contains("calibration.gpu: the constants are of 'h800'"));
  const Scenario allowed =
      load_scenario(tiny, {"calibration.gpu=h800", "calibration.allow_device_mismatch=true"})
          .scenario;
  REQUIRE(allowed.calibration.gpu == "h800");
  REQUIRE(allowed.cluster.gpu.name == "h100");
}

TEST_CASE("shipped calibrations say which kernels were timed, in order", "[config]") {
  for (const auto& path : files_in("calibration")) {
    CAPTURE(path);
    const std::vector<KernelEvidence> kernels = load_calibration(path).kernels;
    REQUIRE(kernels.size() > 30);
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      REQUIRE(kernels[i].kind == Evidence::kPublic);  // nobody has calibrated a GPU for us
      REQUIRE((i == 0 || kernels[i - 1].operation < kernels[i].operation));
    }
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
  const Scenario s = load_scenario(reference_case(), {}).scenario;
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
  REQUIRE(s.plan.overlap.communication);
  REQUIRE(s.plan.overlap.weight_gradient_streams == 2);
  REQUIRE(s.plan.overlap.order == OverlapSpec{}.order);  // both are the trace's
}

TEST_CASE("a phase without a plan of its own has the scenario's", "[config]") {
  const Scenario s = load_scenario(reference_case(), {}).scenario;
  for (const PhaseSpec& phase : s.recipe.phases) {
    REQUIRE(phase.plan.pp == 16);
    REQUIRE(phase.plan.pipeline_layout == s.plan.pipeline_layout);
  }
}
