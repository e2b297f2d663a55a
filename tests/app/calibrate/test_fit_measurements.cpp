#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "app/calibrate/calibrate_report.hpp"
#include "app/calibrate/fit.hpp"
#include "app/calibration/write.hpp"
#include "app/forecast/assumptions.hpp"
#include "app/forecast/provenance.hpp"
#include "fake_device.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Catch::StartsWith;

namespace {

Constant& constant(CalibrationSpec& calibration, const std::string& name) {
  for (const NamedConstant& named : constants_of(calibration)) {
    if (named.name == name) return *named.constant;
  }
  throw Error("no constant " + name);
}

/// Everything that the plan times on a device of these constants.
class Calibrated {
 public:
  Calibrated(const Scenario& scenario, const CalibrationSpec& truth, double noise = 0,
             PlanOptions options = {})
      : plan_(measurement_plan(scenario, machine_, options)),
        table_(folder_.file("t.csv"), kFakeStamp, write_text) {
    FakeDevice device{.truth = truth, .noise = noise};
    session = run_session(plan_, table_, session_with(device));
    fitted = fit_measurements(session.rows, machine_, kFakeStamp);
  }
  [[nodiscard]] const KernelMachine& machine() const { return machine_; }

 private:
  TemporaryFolder folder_;
  KernelMachine machine_ = h100();
  std::vector<PlannedMeasurement> plan_;
  MeasurementTable table_;

 public:
  SessionResult session;
  FittedCalibration fitted;
};

/// The H100's constants, of which some are those of another chip; its products have the one tile
/// of the kernels that are timed.
CalibrationSpec planted(const std::map<std::string, double>& factors) {
  CalibrationSpec truth = h100().calibration;
  truth.product.tallest_tile.value = 128;
  truth.product.widest_tile.value = 128;
  truth.product.one_wave_factor.value = 1;
  truth.product.one_wave_cycles.value = 0;
  for (const auto& [name, factor] : factors) constant(truth, name).value *= factor;
  return truth;
}

const std::map<std::string, double> kPlanted = {
    {"link.hbm", 0.9},
    {"latency.kernel_us", 1.4},
    {"latency.launch_gap_us", 1.5},
    {"memory.norm_cycles", 1.3},
    {"memory.rotation_cycles", 0.8},
    {"memory.conversion_bytes_per_cycle", 0.75},
    {"memory.tile_cycles", 1.25},
    {"memory.selection_cycles", 1.2},
    {"product.drain_cycles", 1.2},
    {"product.gradient_drain_cycles", 0.8},
    {"attention.forward_exposed", 1.3},
    {"attention.backward_exposed", 0.8},
    {"clock.training_ghz", 0.97},
};

}  // namespace

TEST_CASE("a fit finds the constants that a device was given", "[calibrate]") {
  Calibrated calibrated(shipped("deepseek-v3-h800"), planted(kPlanted));
  CalibrationSpec truth = planted(kPlanted);
  for (const auto& [name, factor] : kPlanted) {
    CAPTURE(name);
    const Constant& found = constant(calibrated.fitted.calibration, name);
    REQUIRE(found.value == Approx(constant(truth, name).value).epsilon(0.02));
    REQUIRE(found.kind == Evidence::kCalibrated);
    REQUIRE(found.source ==
            "pipecast calibrate on NVIDIA H100 80GB HBM3, driver 570.124.06, "
            "2026-11-22");
    REQUIRE(found.spread == 0.01);
    REQUIRE(found.low <= found.value);
    REQUIRE(found.value <= found.high);
  }
  for (const SessionRow& row : calibrated.session.rows) {
    if (row.planned->family == MeasuredFamily::kMachine) continue;
    CAPTURE(row.planned->key());
    const double predicted = row.planned->predict(calibrated.fitted.calibration);
    REQUIRE(predicted == Approx(row.measurement.value).epsilon(0.02));
  }
}

TEST_CASE("noise of repetitions widens the ranges, and the truth stays near", "[calibrate]") {
  constexpr double kNoise = 0.03;
  Calibrated calibrated(tiny(), planted(kPlanted), kNoise,
                        {.only = {"rmsnorm_fwd", "rmsnorm_bwd", "memcpy", "copy_strided"}});
  const CalibrationSpec truth = planted(kPlanted);
  const Constant& hbm = calibrated.fitted.calibration.link.hbm;
  REQUIRE(hbm.value == Approx(truth.link.hbm.value).epsilon(2 * kNoise));
  REQUIRE(hbm.low < hbm.value);
  REQUIRE(hbm.value < hbm.high);
}

TEST_CASE("what could not be measured keeps its value and says so", "[calibrate]") {
  Calibrated calibrated(tiny(), planted(kPlanted), 0, {.only = {"rmsnorm_fwd", "memcpy"}});
  CalibrationSpec before = h100().calibration;
  CalibrationSpec& after = calibrated.fitted.calibration;
  std::size_t kept = 0;
  for (const NamedConstant& named : constants_of(before)) {
    CAPTURE(named.name);
    const Constant& now = constant(after, named.name);
    if (now.kind == Evidence::kCalibrated) continue;
    ++kept;
    REQUIRE(now.value == named.constant->value);
    REQUIRE(now.low == named.constant->low);
    REQUIRE(now.source == "not measured here: " + named.constant->source);
  }
  REQUIRE(kept > 50);
  REQUIRE(after.memory.norm_cycles.kind == Evidence::kCalibrated);
  // No more constants than half the rows.
  std::size_t fitted = 0;
  for (const StudyResult& study : calibrated.fitted.studies) fitted += study.constants.size();
  REQUIRE(fitted <= calibrated.session.rows.size() / 2);
}

TEST_CASE("constants of another GPU are modelled here until they are measured", "[calibrate]") {
  KernelMachine machine = h100();
  machine.calibration = kernel_machine("h800", std::nullopt).calibration;
  const std::vector<PlannedMeasurement> plan =
      measurement_plan(tiny(), machine, {.only = {"memcpy"}});
  const TemporaryFolder folder;
  MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
  FakeDevice device{.truth = machine.calibration};
  const SessionResult session = run_session(plan, table, session_with(device));
  const FittedCalibration fitted = fit_measurements(session.rows, machine, kFakeStamp);
  REQUIRE(fitted.calibration.gpu == "h100");
  REQUIRE(fitted.calibration.product.drain_cycles.kind == Evidence::kModelled);
  REQUIRE(fitted.calibration.link.hbm.kind == Evidence::kCalibrated);
}

TEST_CASE("the file that is written loads as what was fitted", "[calibrate]") {
  Calibrated calibrated(tiny(), planted(kPlanted), 0, {.only = {"rmsnorm_fwd", "memcpy"}});
  const TemporaryFolder folder;
  write_text(folder.file("c.yaml"), calibration_yaml(calibrated.fitted, "pipecast calibrate"));
  CalibrationSpec loaded = load_calibration(folder.file("c.yaml"));
  REQUIRE(loaded.gpu == "h100");
  REQUIRE(loaded.device.name == kFakeStamp.name);
  REQUIRE(loaded.device.driver == kFakeStamp.driver);
  REQUIRE(loaded.device.date == kFakeStamp.date);
  for (const NamedConstant& named : constants_of(calibrated.fitted.calibration)) {
    CAPTURE(named.name);
    const Constant& read = constant(loaded, named.name);
    REQUIRE(read.value == Approx(named.constant->value).epsilon(1e-3));
    REQUIRE(read.kind == named.constant->kind);
    REQUIRE(read.spread == Approx(named.constant->spread).epsilon(0.05));
    REQUIRE(read.source == named.constant->source);
  }

  // A scenario takes it, and its forecast says what was timed here.
  const Scenario s = tiny({"calibration.extends=" + folder.file("c.yaml")});
  std::map<std::string, std::string> kinds;
  for (const Provenance& p : provenance_of(s, s.plan)) kinds[p.operation] = p.kind;
  REQUIRE(kinds.at("rmsnorm_fwd") == "calibrated");
  REQUIRE(kinds.at("attention_fwd") == "public");
  REQUIRE(kinds.at("adamw") == "modelled");
}

TEST_CASE("prediction and measurement stand beside each other afterwards", "[calibrate]") {
  Calibrated calibrated(tiny(), planted(kPlanted), 0, {.only = {"rmsnorm_fwd", "memcpy"}});
  const CalibrateSubject subject{.machine = calibrated.machine(),
                                 .scenario = "tiny-moe-h100",
                                 .device = kFakeStamp,
                                 .has_kernel = [](const PlannedMeasurement&) { return true; }};
  calibrated.session.not_reached = 3;
  const CalibrateOutcome outcome{.session = calibrated.session,
                                 .fitted = calibrated.fitted,
                                 .table = "h100.csv",
                                 .calibration = "h100.yaml"};
  const nlohmann::ordered_json json = calibrate_json(subject, outcome);
  REQUIRE(json["device"]["driver"] == kFakeStamp.driver);
  REQUIRE(json["no_gpu"].is_null());
  REQUIRE(json["measurements"].size() == calibrated.session.rows.size());
  for (const auto& row : json["measurements"]) {
    REQUIRE(row["outcome"] == "timed");
    REQUIRE(row["measured"].get<double>() > row["predicted"].get<double>());  // a slower device
    REQUIRE(row["predicted_after"].get<double>() ==
            Approx(row["measured"].get<double>()).epsilon(0.01));
  }
  REQUIRE(json["constants"].size() == constants_of(calibrated.fitted.calibration).size());
  const std::string text = calibrate_text(subject, outcome);
  REQUIRE_THAT(text, StartsWith("NVIDIA H100 80GB HBM3, driver 570.124.06\n"));
  REQUIRE_THAT(text, Contains("The time limit left 3 measurements; the same command goes on.") &&
                         Contains("Written: h100.yaml; measurements: h100.csv"));
}

TEST_CASE("what has no time is told with its reason, and nothing is written of nothing",
          "[calibrate]") {
  const KernelMachine machine = h100();
  const auto plan = measurement_plan(tiny(), machine, {.only = {"memcpy"}});
  SessionResult session;
  for (const PlannedMeasurement& planned : plan) {
    session.rows.push_back(
        {&planned, {.outcome = Measurement::Outcome::kNoKernel, .note = "no kernel yet"}});
  }
  session.rows.front().measurement = {.outcome = Measurement::Outcome::kWrong,
                                      .note = "wrong by 1, tolerated are 0"};
  const CalibrateSubject subject{.machine = machine, .scenario = "s", .device = kFakeStamp};
  const std::string text = calibrate_text(subject, {.session = session});
  REQUIRE_THAT(text, Contains("Not timed: memcpy elements=16777216 sms=132: wrong by 1, tolerated "
                              "are 0\nNot timed: memcpy: no kernel yet (" +
                              std::to_string(plan.size() - 1) +
                              " shapes)\nNothing was timed: no calibration is written.\n"));
  const nlohmann::ordered_json json = calibrate_json(subject, {.session = session});
  REQUIRE(json["written"].is_null());
  REQUIRE(json["measurements"][0]["outcome"] == "wrong");
  REQUIRE(json["measurements"][1]["outcome"] == "no_kernel");
  REQUIRE(json["measurements"][1]["reason"] == "no kernel yet");
}
