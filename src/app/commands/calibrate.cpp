#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "app/calibrate/calibrate_report.hpp"
#include "app/calibrate/fit.hpp"
#include "app/calibrate/gpu_measurer.hpp"
#include "app/calibrate/machine.hpp"
#include "app/calibration/write.hpp"
#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/progress.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

constexpr std::string_view kSummary =
    "Times the CUDA kernels of a training step on this machine's GPUs, fits the simulator's "
    "constants on the times and writes them as a calibration file.";
constexpr int kNoGpu = 77;  // exit code

void declare_options(CommandLine& line) {
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  line.add_scenario_options();
  line.options().add_options()  //
      ("model", text("MODEL")->default_value("deepseek-v3"),
       "whose shapes are timed: a shipped model or scenario, or a scenario's YAML file")  //
      ("gpus", text("N|LIST")->default_value("1"),
       "GPUs of this machine: the first N, a list such as 0,2, or all; kernels run on the first, "
       "links between all")                                                          //
      ("only", text("OP,OP"), "time nothing but these operations and probes")        //
      ("time-limit", text("TIME"), "begin no measurement after it: 90s, 10min, 2h")  //
      ("output,o", text("FILE.yaml"),
       "the calibration to write (default: configs/calibration/DEVICE.yaml); measurements lie "
       "beside it in FILE.csv, and a second start goes on from there")  //
      ("fresh", "measure everything anew")                              //
      ("gpu", text("GPU"),
       "description that predictions take: a shipped GPU or a YAML file (default: what the device "
       "is, without one the scenario's)")                                                   //
      ("calibration", text("FILE"), "constants to begin with (default: those of the GPU)")  //
      ("dry-run", "only list what would be timed, with the simulator's prediction of each");
}

/// A shipped scenario of that name, or the first of a shipped model.
std::filesystem::path scenario_of(const std::string& word) {
  if (word.find('/') != std::string::npos || std::filesystem::path(word).has_extension()) {
    return word;
  }
  const std::vector<std::string> known = shipped_names("scenarios");
  for (const bool exactly : {true, false}) {
    for (const std::string& name : known) {
      if (exactly ? name == word : name.rfind(word + "-", 0) == 0) {
        return config_directory() / "scenarios" / (name + ".yaml");
      }
    }
  }
  const std::string close = nearest(word, known);
  throw Error(
      fmt::format("--model: no shipped model or scenario '{}'{}; or the path of a YAML file", word,
                  close.empty() ? "" : fmt::format(", did you mean {}?", close)));
}

std::vector<GpuSpec> shipped_gpus() {
  std::vector<GpuSpec> out;
  for (const std::string& name : shipped_names("gpus")) {
    out.push_back(load_gpu(config_directory() / "gpus" / (name + ".yaml")));
  }
  return out;
}

std::optional<std::string> given(const CommandLine& line, const std::string& option) {
  return line.has(option) ? std::optional(line.text(option)) : std::nullopt;
}

/// The GPU that predictions are for.
KernelMachine machine_of(const CommandLine& line, const Scenario& scenario,
                         const kernels::GpuInventory& here, const std::vector<int>& devices) {
  const std::optional<std::string> calibration = given(line, "calibration");
  if (line.has("gpu")) return kernel_machine(line.text("gpu"), calibration);
  if (!devices.empty()) {
    const kernels::GpuDevice& device = here.devices[static_cast<std::size_t>(devices.front())];
    return kernel_machine(described_gpu(device.name, device.sm_count, shipped_gpus()).name,
                          calibration);
  }
  if (calibration) return {scenario.cluster.gpu, load_calibration(*calibration), *calibration};
  return {scenario.cluster.gpu, scenario.calibration, "the scenario's calibration"};
}

std::vector<std::string> names_of(const CommandLine& line) {
  if (!line.has("only")) return {};
  std::vector<std::string> out = split(line.text("only"), ',');
  for (std::string& name : out) std::replace(name.begin(), name.end(), '-', '_');
  return out;
}

std::filesystem::path output_of(const CommandLine& line, const DeviceStamp& device) {
  if (line.has("output")) return line.text("output");
  return config_directory() / "calibration" / (file_name_of(device.name) + ".yaml");
}

SessionResult measure(const CommandLine& line, const std::vector<PlannedMeasurement>& plan,
                      GpuMeasurer& measurer, MeasurementTable& table) {
  const auto started = std::chrono::steady_clock::now();
  ProgressBar progress(!line.quiet());
  CalibrationSession session{
      .measure = [&](const PlannedMeasurement& planned) { return measurer.measure(planned); },
      .elapsed_s =
          [started] {
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - started)
                .count();
          },
      .progress = [&](std::string_view stage,
                      double fraction) { progress.update(stage, fraction); }};
  if (line.has("time-limit")) session.time_limit_s = parse_time_limit(line.text("time-limit"));
  return run_session(plan, table, session);
}

int calibrate(const CommandLine& line, const std::vector<PlannedMeasurement>& plan,
              CalibrateSubject subject, const kernels::GpuInventory& here,
              const std::vector<int>& devices) {
  GpuMeasurer measurer(here, devices);
  subject.device = measurer.device();
  const std::filesystem::path output = output_of(line, subject.device);
  std::filesystem::path table_path = output;
  table_path.replace_extension(".csv");
  if (line.has("fresh")) std::filesystem::remove(table_path);
  MeasurementTable table(table_path, subject.device, write_file);
  const SessionResult session = measure(line, plan, measurer, table);
  CalibrateOutcome outcome{.session = session, .table = table_path.string()};
  const auto timed = [](const SessionRow& row) {
    return row.measurement.outcome == Measurement::Outcome::kTimed;
  };
  if (std::any_of(session.rows.begin(), session.rows.end(), timed)) {
    outcome.fitted = fit_measurements(session.rows, subject.machine, subject.device);
    outcome.calibration = output.string();
    write_file(output, calibration_yaml(*outcome.fitted, "pipecast calibrate"));
  }
  if (line.talks()) fmt::print("{}", calibrate_text(subject, outcome));
  line.write_json(calibrate_json(subject, outcome));
  return 0;
}

int run_calibrate(const std::vector<std::string>& arguments) {
  CommandLine line("calibrate [options]", std::string(kSummary));
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  if (line.has("time-limit")) parse_time_limit(line.text("time-limit"));
  const LoadedScenario loaded = load_scenario(scenario_of(line.text("model")), line.sets());
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }
  const bool dry = line.has("dry-run");
  const kernels::GpuInventory here = kernels::find_gpus();
  if (here.devices.empty() && !dry) {
    fmt::print(stderr,
               "calibrate: there is no GPU to calibrate on: {}; --dry-run lists what would be "
               "timed\n",
               here.reason);
    return kNoGpu;
  }
  // Without a GPU, what a node of the scenario would have.
  const std::size_t present = here.devices.empty()
                                  ? static_cast<std::size_t>(loaded.scenario.cluster.gpus_per_node)
                                  : here.devices.size();
  std::vector<int> devices = parse_devices(line.text("gpus"), static_cast<int>(present));
  const auto used = static_cast<int>(devices.size());
  if (here.devices.empty()) devices.clear();
  const KernelMachine machine = machine_of(line, loaded.scenario, here, devices);
  const std::vector<PlannedMeasurement> plan =
      measurement_plan(loaded.scenario, machine, {.gpus = used, .only = names_of(line)});
  CalibrateSubject subject{.machine = machine,
                           .scenario = loaded.scenario.name,
                           .no_gpu = here.reason,
                           .has_kernel = has_kernel};
  if (!dry) return calibrate(line, plan, subject, here, devices);
  if (!devices.empty()) {
    const kernels::GpuDevice& device = here.devices[static_cast<std::size_t>(devices.front())];
    subject.device = {.name = device.name, .driver = "for CUDA " + device.cuda};
  }
  if (line.talks()) fmt::print("{}", calibrate_plan_text(subject, plan));
  line.write_json(calibrate_plan_json(subject, plan));
  return 0;
}

const Register<Command> kEntry{
    "calibrate",
    {run_calibrate, "time the kernels of a step on this machine's GPU, fit constants"}};

}  // namespace

}  // namespace pipecast
