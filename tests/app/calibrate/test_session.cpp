#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "app/calibrate/measurement_plan.hpp"
#include "app/forecast/step_operations.hpp"
#include "app/kernel/kernel_name.hpp"
#include "fake_device.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;

namespace {

std::vector<PlannedMeasurement> tiny_plan(const KernelMachine& machine,
                                          std::vector<std::string> only = {"rmsnorm_fwd",
                                                                           "memcpy"}) {
  static const Scenario kScenario = tiny();
  return measurement_plan(kScenario, machine, {.only = std::move(only)});
}

std::vector<std::string> keys_of(const std::vector<PlannedMeasurement>& plan) {
  std::vector<std::string> out;
  for (const PlannedMeasurement& planned : plan) out.push_back(planned.key());
  return out;
}

}  // namespace

TEST_CASE("a plan times everything once, on all SMs and on both parts of the split",
          "[calibrate]") {
  const KernelMachine machine = h100();
  const Scenario s = tiny();
  const std::vector<PlannedMeasurement> plan = measurement_plan(s, machine, {});
  std::set<std::string> keys;
  std::set<int> sms;
  for (const PlannedMeasurement& item : plan) {
    CAPTURE(item.key());
    REQUIRE(keys.insert(item.key()).second);
    REQUIRE(item.predict(machine.calibration) > 0);
    REQUIRE(item.gpus == 1);  // links are for several
    sms.insert(item.sms);
  }
  const int all = machine.gpu.sm_count;
  REQUIRE(sms == std::set<int>{s.plan.communication_sms, all - s.plan.communication_sms, all});
  REQUIRE(plan.front().name == kEmptyKernel);
  std::set<std::string> planned;
  for (const PlannedMeasurement& item : plan) planned.insert(item.name);
  for (const Operation& operation : step_operations(s, s.plan, 1)) {
    CAPTURE(operation.op);
    if (extents_of(operation)) REQUIRE(planned.count(std::string(operation.op)) == 1);
  }
}

TEST_CASE("a planned prediction is that of pipecast kernel", "[calibrate]") {
  const KernelMachine machine = h100();
  const auto plan = tiny_plan(machine, {"rmsnorm_fwd"});
  for (const PlannedMeasurement& planned : plan) {
    std::vector<std::int64_t> values;
    for (const NamedExtent& extent : planned.extents) values.push_back(extent.value);
    const Operation operation = make_operation(kernel_name(planned.name, std::nullopt), values);
    REQUIRE(planned.predict(machine.calibration) ==
            to_microseconds(predict_kernel(operation, machine, planned.sms).cost.time));
  }
}

TEST_CASE("links are timed where there are several GPUs", "[calibrate]") {
  const KernelMachine machine = h100();
  const auto plan =
      measurement_plan(tiny(), machine, {.gpus = 4, .only = {"probe_nccl_all_to_all"}});
  REQUIRE(plan.size() == 3);
  for (const PlannedMeasurement& planned : plan) {
    REQUIRE(planned.gpus == 4);
    // Doubling the fraction of the line rate halves the time but for latencies.
    CalibrationSpec half = machine.calibration;
    half.link.nvlink.value /= 2;
    REQUIRE(planned.predict(half) > planned.predict(machine.calibration));
    REQUIRE(planned.predict(half) < 2 * planned.predict(machine.calibration));
  }
}

TEST_CASE("dispatch and combine are timed where there are several GPUs", "[calibrate]") {
  const KernelMachine machine = h100();
  const auto plan = measurement_plan(tiny(), machine, {.gpus = 2, .only = {"ep_dispatch"}});
  REQUIRE(!plan.empty());
  for (const PlannedMeasurement& planned : plan) {
    REQUIRE(planned.gpus == 2);
    REQUIRE(planned.sms % 2 == 0);  // one half sends, the other receives
    REQUIRE(planned.predict(machine.calibration) > 0);
    // Where NVLink may be the limit, no constant of the SMs is fitted.
    REQUIRE((planned.family == MeasuredFamily::kExchange) == (planned.sms <= 12));
  }
  REQUIRE_THROWS_WITH(measurement_plan(tiny(), machine, {.gpus = 1, .only = {"ep_dispatch"}}),
                      Contains("times no 'ep_dispatch'"));
}

TEST_CASE("only what was asked for is planned, and what there is not is refused", "[calibrate]") {
  const KernelMachine machine = h100();
  for (const PlannedMeasurement& planned : tiny_plan(machine, {"rope"})) {
    REQUIRE(planned.name == "rope");
  }
  REQUIRE_THROWS_WITH(tiny_plan(machine, {"rmsnorm_fwt"}),
                      Contains("--only: this scenario times no 'rmsnorm_fwt', did you mean "
                               "rmsnorm_fwd?; it times ") &&
                          Contains("probe_clock"));
}

TEST_CASE("a second start goes on where the first one ended", "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  const auto plan = tiny_plan(machine);
  REQUIRE(plan.size() > 6);
  FakeDevice device{.truth = machine.calibration};
  CalibrationSession session = session_with(device);
  constexpr int kBeforeLimit = 4;
  session.time_limit_s = kBeforeLimit;
  // A second for each: the limit is reached when that many are done.
  session.elapsed_s = [&] { return static_cast<double>(device.measured.size()); };
  {
    MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
    const SessionResult first = run_session(plan, table, session);
    REQUIRE(first.rows.size() == kBeforeLimit);
    REQUIRE(first.not_reached == plan.size() - kBeforeLimit);
  }
  session.time_limit_s.reset();
  MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
  REQUIRE(table.size() == kBeforeLimit);
  const SessionResult second = run_session(plan, table, session);
  REQUIRE(second.not_reached == 0);
  REQUIRE(device.measured == keys_of(plan));  // each once, over both starts
  for (std::size_t i = 0; i < plan.size(); ++i) {
    CAPTURE(plan[i].key());
    REQUIRE(second.rows[i].earlier == (i < kBeforeLimit));
    REQUIRE(second.rows[i].measurement.value == Approx(plan[i].predict(device.truth)));
    REQUIRE(second.rows[i].measurement.repetitions == 31);
    REQUIRE(second.rows[i].measurement.clock_ghz == 1.7);
    REQUIRE(!second.rows[i].measurement.power_w);
  }
}

TEST_CASE("the limit is looked at before a measurement: exactly reached, none is begun",
          "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  const auto plan = tiny_plan(machine);
  FakeDevice device{.truth = machine.calibration};
  CalibrationSession session = session_with(device);
  MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
  session.time_limit_s = 7;
  session.elapsed_s = [] { return 7.0; };
  REQUIRE(run_session(plan, table, session).not_reached == plan.size());
  session.elapsed_s = [] { return 6.999; };
  REQUIRE(run_session(plan, table, session).not_reached == 0);
}

TEST_CASE("a wrong kernel is reported, never timed, and tried again", "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  const auto plan = tiny_plan(machine, {"memcpy"});
  int asked = 0;
  const CalibrationSession session{.measure =
                                       [&](const PlannedMeasurement&) {
                                         ++asked;
                                         return Measurement{
                                             .outcome = Measurement::Outcome::kWrong,
                                             .error = 0.3,
                                             .tolerance = 0.1,
                                             .note = "wrong by 0.3, tolerated are 0.1"};
                                       },
                                   .elapsed_s = [] { return 0.0; }};
  for (int start = 1; start <= 2; ++start) {
    MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
    const SessionResult result = run_session(plan, table, session);
    REQUIRE(table.size() == 0);
    REQUIRE(asked == start * static_cast<int>(plan.size()));
    REQUIRE(result.rows.front().measurement.outcome == Measurement::Outcome::kWrong);
  }
  REQUIRE(!std::filesystem::exists(folder.file("t.csv")));
}

TEST_CASE("progress goes from nothing towards everything", "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  const auto plan = tiny_plan(machine);
  FakeDevice device{.truth = machine.calibration};
  CalibrationSession session = session_with(device);
  std::vector<double> seen;
  session.progress = [&](std::string_view, double fraction) { seen.push_back(fraction); };
  MeasurementTable table(folder.file("t.csv"), kFakeStamp, write_text);
  run_session(plan, table, session);
  REQUIRE(seen.size() == plan.size());
  REQUIRE(seen.front() == 0);
  REQUIRE(std::is_sorted(seen.begin(), seen.end()));
  REQUIRE(seen.back() < 1);
}

TEST_CASE("a table of another device or driver is not gone on with", "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  FakeDevice device{.truth = machine.calibration};
  const std::string path = folder.file("t.csv");
  {
    MeasurementTable table(path, kFakeStamp, write_text);
    run_session(tiny_plan(machine, {"memcpy"}), table, session_with(device));
  }
  DeviceStamp other = kFakeStamp;
  other.name = "NVIDIA H800";
  REQUIRE_THROWS_WITH(MeasurementTable(path, other, write_text),
                      Contains("t.csv:2:") &&
                          Contains("measured with device 'NVIDIA H100 80GB HBM3', this is 'NVIDIA "
                                   "H800'; expected to go on where it was begun"));
  other = kFakeStamp;
  other.driver = "580";
  REQUIRE_THROWS_WITH(MeasurementTable(path, other, write_text),
                      Contains("measured with driver '570.124.06', this is '580'"));
  other = kFakeStamp;
  other.date = "2026-11-23";  // another day is no other machine
  REQUIRE(MeasurementTable(path, other, write_text).size() ==
          tiny_plan(machine, {"memcpy"}).size());
}

TEST_CASE("a spoilt table is refused by its place", "[calibrate]") {
  const TemporaryFolder folder;
  const KernelMachine machine = h100();
  FakeDevice device{.truth = machine.calibration};
  const std::string path = folder.file("t.csv");
  {
    MeasurementTable table(path, kFakeStamp, write_text);
    run_session(tiny_plan(machine, {"memcpy"}), table, session_with(device));
  }
  std::string text = text_of(path);
  const auto at = text.find(",us,") + 4;
  text.replace(at, text.find(',', at) - at, "-1");
  write_text(path, text);
  REQUIRE_THROWS_WITH(
      MeasurementTable(path, kFakeStamp, write_text),
      Contains("t.csv:2:") && Contains("value: -1 is no measurement; expected more than 0"));
}
