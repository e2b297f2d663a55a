#include <fmt/format.h>

#include "app/chunk/chunk_run.hpp"
#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/chunk_report.hpp"
#include "app/report/chunk_svg.hpp"
#include "app/report/chunk_trace.hpp"
#include "app/report/progress.hpp"
#include "app/report/table.hpp"
#include "app/tables/launch_table.hpp"

namespace pipecast {

namespace {

void declare_options(CommandLine& line) {
  namespace po = boost::program_options;
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  line.add_positional("scenario", "scenario file");
  line.add_scenario_options();
  line.options().add_options()  //
      ("kind", text("KIND")->default_value("overlapped"),
       "forward, backward, backward-input, backward-weight, or overlapped: a forward and a "
       "backward at the same time")  //
      ("layers", po::value<int>()->value_name("N"),
       "layers with experts (default: those of the stage with most); dense ones of a model "
       "without experts")  //
      ("stage", po::value<int>()->value_name("R"),
       "the layers of stage R of the plan instead; of a pair: R forward, its mirror backward")  //
      ("peers-late", po::value<double>()->value_name("US"),
       "microseconds that every exchange waits for the last GPU of its group (default: the "
       "calibration's communication.peers_late_us)")                                         //
      ("compare", text("FILE.csv"), "set a measured trace of the same chunk beside it")      //
      ("csv", text("FILE"), "write every kernel, in the form that --compare reads")          //
      ("trace", text("FILE"), "write a trace for Perfetto (gzip-compressed Chrome format)")  //
      ("svg", text("FILE"), "draw the timeline; with --tune-sms the curve")                  //
      ("tune-sms", "sweep communication SMs and launch orders, and report the best");
}

template <class T>
std::optional<T> given(const CommandLine& line, const std::string& option) {
  return line.has(option) ? std::optional(line.get<T>(option)) : std::nullopt;
}

TextStyle style() { return {.width = terminal_width(), .colours = colours_wanted()}; }

Duration peers_late(const CommandLine& line, const Scenario& scenario) {
  constexpr double kLongest = 1e6;  // us
  const double us = line.has("peers-late") ? line.get<double>("peers-late")
                                           : scenario.calibration.communication.peers_late_us.value;
  require(us >= 0 && us <= kLongest, "--peers-late: {:g} is not within 0 and {:g} microseconds", us,
          kLongest);
  return duration_from_seconds(us * 1e-6);
}

int tune(const CommandLine& line, const Scenario& scenario, const ChunkShape& shape) {
  for (const char* const option : {"compare", "csv", "trace"}) {
    require(!line.has(option), "--{} is of one chunk; --tune-sms plays many", option);
  }
  const Duration late = peers_late(line, scenario);
  ProgressBar progress(!line.quiet());
  const ChunkTuning tuning = tune_chunk(
      scenario, shape, late, [&](double fraction) { progress.update("tuning", fraction); });
  progress.finish();
  const TuningAnswer answer{scenario, shape, late, tuning};
  if (line.has("svg")) write_file(line.text("svg"), tuning_svg(answer));
  if (line.talks()) fmt::print("{}", tuning_text(answer, style()));
  line.write_json(tuning_json(answer));
  return 0;
}

int play_one(const CommandLine& line, const Scenario& scenario, const ChunkShape& shape) {
  std::vector<TraceRow> measured;
  if (line.has("compare")) {
    measured = read_trace(line.text("compare"));
    require(!measured.empty(), "{}:1:1: no kernels below the header", line.text("compare"));
  }
  const ChunkRun run = run_chunk(scenario, shape, peers_late(line, scenario));
  ChunkAnswer answer = chunk_answer(scenario, run);
  if (line.has("compare")) compare_with(answer, line.text("compare"), std::move(measured));
  if (line.has("csv")) write_file(line.text("csv"), trace_text(answer.rows));
  if (line.has("trace")) write_chunk_trace(line.text("trace"), scenario.name, run);
  if (line.has("svg")) write_file(line.text("svg"), timeline_svg(timeline_picture(answer)));
  if (line.talks()) fmt::print("{}", chunk_text(answer, style()));
  line.write_json(chunk_json(answer));
  return 0;
}

int run_chunk_command(const std::vector<std::string>& arguments) {
  CommandLine line("chunk SCENARIO.yaml [options]",
                   "Simulates what one GPU does for one micro-batch on one stage, kernel by "
                   "kernel, and compares it with a measured trace.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  const ChunkRequest request{.kind = chunk_kind(line.text("kind")),
                             .layers = given<int>(line, "layers"),
                             .stage = given<int>(line, "stage")};
  const LoadedScenario loaded = load_scenario(line.text("scenario"), line.sets());
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }
  const ChunkShape shape = chunk_shape(loaded.scenario, request);
  return line.has("tune-sms") ? tune(line, loaded.scenario, shape)
                              : play_one(line, loaded.scenario, shape);
}

const Register<Command> kEntry{
    "chunk", {run_chunk_command, "simulate one chunk on one GPU, kernel by kernel"}};

}  // namespace

}  // namespace pipecast
