#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/commands/does_not_fit.hpp"
#include "app/commands/simulation_mode.hpp"
#include "app/config/load.hpp"
#include "app/forecast/forecast.hpp"
#include "app/report/progress.hpp"
#include "app/report/result_json.hpp"
#include "app/report/step_trace.hpp"
#include "app/report/summary.hpp"

namespace pipecast {

namespace {

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  constexpr std::uint64_t kKibibyte = 1024;  // the unit of ru_maxrss on Linux
  return static_cast<std::uint64_t>(usage.ru_maxrss) * kKibibyte;
}

void declare_options(CommandLine& line) {
  namespace po = boost::program_options;
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  line.add_positional("scenario", "scenario file");
  line.add_scenario_options();
  line.options().add_options()  //
      ("mode", po::value<std::string>()->default_value("full")->value_name("MODE"),
       "full: every GPU is simulated by itself; folded: one data-parallel replica stands for "
       "all")  //
      ("out", po::value<std::string>()->value_name("DIR"),
       "write result.json and trace.json.gz there")  //
      ("trace", po::value<std::string>()->value_name("FILE"),
       "write the step's trace for Perfetto (gzip-compressed Chrome format)")  //
      ("threads", po::value<int>()->default_value(cores)->value_name("N"),
       "threads for independent simulations; the result does not depend on it");
}

/// Where files go, settled before anything is simulated.
struct Outputs {
  std::optional<std::filesystem::path> result;
  std::vector<std::filesystem::path> traces;
};

Outputs outputs_of(const CommandLine& line) {
  Outputs out;
  if (line.has("trace")) out.traces.emplace_back(line.text("trace"));
  if (!line.has("out")) return out;
  const std::filesystem::path directory = line.text("out");
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  require(std::filesystem::is_directory(directory), "--out {}: the directory cannot be created",
          directory.string());
  out.result = directory / "result.json";
  out.traces.push_back(directory / "trace.json.gz");
  return out;
}

Forecast forecast_or_fixes(const Scenario& scenario, const CommandLine& line,
                           const ForecastOptions& options) {
  try {
    return forecast(scenario, options);
  } catch (const DoesNotFit& why) {
    refuse_with_fixes(why, scenario, line,
                      {.mode = options.mode,
                       .seed = options.seed,
                       .threads = options.threads,
                       .progress = options.progress});
  }
}

int run_run(const std::vector<std::string>& arguments) {
  const auto started = std::chrono::steady_clock::now();
  CommandLine line("run SCENARIO.yaml [options]",
                   "Simulates one training step and forecasts time, memory and cost of the run.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  const SimulationMode mode = mode_of(line.text("mode"));
  require(line.get<int>("threads") > 0, "--threads: {} is not positive", line.get<int>("threads"));

  const LoadedScenario loaded = load_scenario(line.text("scenario"), line.sets());
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }

  const Outputs outputs = outputs_of(line);
  StepTrace trace;
  ProgressBar progress(!line.quiet());
  const Forecast result =
      forecast_or_fixes(loaded.scenario, line,
                        {.mode = mode,
                         .seed = line.seed(),
                         .threads = line.get<int>("threads"),
                         .trace = outputs.traces.empty() ? nullptr : &trace,
                         .progress = [&](std::string_view stage, double fraction) {
                           progress.update(stage, fraction);
                         }});
  progress.finish();
  const auto ranks = static_cast<int>(result.step.times.ranks.size());
  for (const auto& path : outputs.traces) write_step_trace(path, ranks, trace, result.memory);

  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - started;
  const SimulatorCost cost{.wall_s = wall.count(), .peak_rss_bytes = peak_rss_bytes()};
  const nlohmann::ordered_json document =
      result_json(loaded.scenario, result, mode, line.seed(), config_json(loaded), cost);
  line.write_json(document);
  if (outputs.result) write_file(*outputs.result, document.dump(2) + "\n");
  if (line.talks()) print_summary(loaded.scenario, result, mode, cost);
  return 0;
}

const Register<Command> kEntry{"run", {run_run, "simulate one training step and forecast the run"}};

}  // namespace

}  // namespace pipecast
