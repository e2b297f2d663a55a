#include <fmt/format.h>

#include <thread>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/commands/simulation_mode.hpp"
#include "app/config/load.hpp"
#include "app/report/memory_report.hpp"
#include "app/report/result_json.hpp"

namespace pipecast {

namespace {

void declare_options(CommandLine& line) {
  namespace po = boost::program_options;
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  line.add_positional("scenario", "scenario file");
  line.add_scenario_options();
  line.options().add_options()  //
      ("mode", text("MODE")->default_value("folded"),
       "folded: one data-parallel replica stands for all; full: every GPU is simulated by "
       "itself")  //
      ("rank", po::value<int>()->value_name("R"),
       "look into the peak of pipeline rank R (default: the fullest); --svg draws it alone")  //
      ("tensors", po::value<int>()->default_value(15)->value_name("N"),
       "show the N largest tensors")  //
      ("explain", text("NAME"),
       "show the arithmetic of a category, a tensor or the total at the rank's peak instead of the "
       "tables")  //
      ("svg", text("FILE"),
       "draw what every pipeline rank holds over the step, by category")  //
      ("threads", po::value<int>()->default_value(cores)->value_name("N"),
       "threads of the simulation; the result does not depend on it");
}

int positive(const CommandLine& line, const char* option) {
  const int value = line.get<int>(option);
  require(value > 0, "--{}: {} is not positive", option, value);
  return value;
}

std::optional<int> rank_of(const CommandLine& line, int ranks) {
  if (!line.has("rank")) return std::nullopt;
  const int rank = line.get<int>("rank");
  require(rank >= 0 && rank < ranks, "--rank: {} is none of the pipeline ranks 0 to {}", rank,
          ranks - 1);
  return rank;
}

nlohmann::ordered_json document_of(const CommandLine& line, const LoadedScenario& loaded,
                                   SimulationMode mode, const MemoryAnswer& answer) {
  nlohmann::ordered_json out = {{"format", "pipecast-memory/1"},
                                {"version", PIPECAST_VERSION},
                                {"scenario", loaded.scenario.name},
                                {"mode", name_of(mode)},
                                {"seed", line.seed()},
                                {"config", config_json(loaded)}};
  out.update(memory_json(answer));
  return out;
}

int run_memory(const std::vector<std::string>& arguments) {
  CommandLine line("memory SCENARIO.yaml [options]",
                   "Simulates one training step and tells what fills the GPUs of every pipeline "
                   "rank at its peak, tensor by tensor.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  const MemoryRequest request{.mode = mode_of(line.text("mode")),
                              .seed = line.seed(),
                              .threads = positive(line, "threads")};
  const auto tensors = static_cast<std::size_t>(positive(line, "tensors"));
  const LoadedScenario loaded = load_scenario(line.text("scenario"), line.sets());
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }
  const Scenario& scenario = loaded.scenario;
  const PlanSpec& plan = main_phase(scenario.recipe).plan;
  const std::optional<int> rank = rank_of(line, plan.pp);
  const MemoryAnswer answer{
      .scenario = scenario, .study = study_memory(scenario, request), .rank = rank};
  const std::string text = line.has("explain") ? memory_explanation(answer, line.text("explain"))
                                               : memory_text(answer, tensors);
  if (line.talks()) fmt::print("{}", text);
  if (line.has("svg")) write_file(line.text("svg"), memory_svg(answer));
  if (line.has("json")) line.write_json(document_of(line, loaded, request.mode, answer));
  require_memory(answer.study.memory, scenario, plan, answer.study.step);
  return 0;
}

const Register<Command> kEntry{"memory",
                               {run_memory, "memory of every pipeline rank, tensor by tensor"}};

}  // namespace

}  // namespace pipecast
