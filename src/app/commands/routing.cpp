#include <fmt/format.h>

#include <thread>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/progress.hpp"
#include "app/report/result_json.hpp"
#include "app/report/routing_report.hpp"

namespace pipecast {

namespace {

void declare_options(CommandLine& line) {
  namespace po = boost::program_options;
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  line.add_positional("scenario", "scenario file");
  line.add_scenario_options();
  line.options().add_options()  //
      ("steps", po::value<int>()->value_name("N"),
       "run the bias rule for N training steps first, as routing.bias.steps does")  //
      ("layers", po::value<int>()->value_name("N"),
       "study the first N layers with experts (default: all)")  //
      ("micro-batches", po::value<int>()->default_value(8)->value_name("N"),
       "study N micro-batches of each")  //
      ("mode", text("MODE")->default_value("folded"),
       "of the training step: folded, one data-parallel replica stands for all; full, every GPU "
       "by itself")                                                                   //
      ("exact", "also pass every token of two layers through the gate, and compare")  //
      ("zipf-curve",
       "instead: the training step over the exponent of a Zipf distribution, without and with the "
       "bias rule")                                                                       //
      ("svg", text("FILE"), "draw the loads as a heat map; with --zipf-curve the curve")  //
      ("rows", text("WHAT")->default_value("layers"),
       "of the heat map: layers (of the first micro-batch) or micro-batches (of the first "
       "layer)")                                                                                 //
      ("columns", text("WHAT")->default_value("gpus"), "of the heat map: gpus or experts")       //
      ("bias-svg", text("FILE"), "draw how the loads even out over the steps of the bias rule")  //
      ("record", text("FILE.csv"),
       "write the loads as a trace that routing.distribution=trace reads")  //
      ("threads", po::value<int>()->default_value(cores)->value_name("N"),
       "threads of a full simulation; the result does not depend on it");
}

/// One of two words.
bool first_of(const CommandLine& line, const char* option, const char* first, const char* second) {
  const std::string word = line.text(option);
  require(word == first || word == second, "--{}: unknown '{}'; it is {} or {}", option, word,
          first, second);
  return word == first;
}

int positive(const CommandLine& line, const char* option) {
  const int value = line.get<int>(option);
  require(value > 0, "--{}: {} is not positive", option, value);
  return value;
}

struct Request {
  RoutingRequest study;
  HeatRows rows{};
  HeatColumns columns{};
};

Request request_of(const CommandLine& line) {
  constexpr int kMostMicroBatches = 100'000;
  Request out{.study = {.layers = std::nullopt,
                        .micro_batches = positive(line, "micro-batches"),
                        .mode = first_of(line, "mode", "folded", "full") ? SimulationMode::kFolded
                                                                         : SimulationMode::kFull,
                        .seed = line.seed(),
                        .threads = positive(line, "threads"),
                        .exact = line.has("exact")},
              .rows = first_of(line, "rows", "layers", "micro-batches") ? HeatRows::kLayers
                                                                        : HeatRows::kMicroBatches,
              .columns = first_of(line, "columns", "gpus", "experts") ? HeatColumns::kGpus
                                                                      : HeatColumns::kExperts};
  require(out.study.micro_batches <= kMostMicroBatches, "--micro-batches: at most {}",
          kMostMicroBatches);
  if (line.has("layers")) out.study.layers = positive(line, "layers");
  if (!line.has("zipf-curve")) return out;
  for (const char* const option : {"exact", "bias-svg", "record"})
    require(!line.has(option), "--{} is of one routing; --zipf-curve studies many", option);
  return out;
}

nlohmann::ordered_json document_of(const CommandLine& line, const LoadedScenario& loaded,
                                   const Request& request, const nlohmann::ordered_json& result) {
  nlohmann::ordered_json out = {{"format", "pipecast-routing/1"},
                                {"version", PIPECAST_VERSION},
                                {"scenario", loaded.scenario.name},
                                {"mode", name_of(request.study.mode)},
                                {"seed", line.seed()},
                                {"config", config_json(loaded)}};
  out.update(result);
  return out;
}

void study_curve(const CommandLine& line, const LoadedScenario& loaded, const Request& request,
                 ProgressBar& progress) {
  const ZipfCurve curve = zipf_curve(loaded.scenario, request.study);
  progress.finish();
  if (line.has("svg")) write_file(line.text("svg"), zipf_svg(loaded.scenario, curve));
  if (line.talks()) fmt::print("{}", zipf_text(loaded.scenario, curve));
  line.write_json(document_of(line, loaded, request, zipf_json(curve)));
}

void study_one(const CommandLine& line, const LoadedScenario& loaded, const Request& request,
               ProgressBar& progress) {
  require(!line.has("record") || loaded.scenario.routing.redundant_experts == 0,
          "--record: redundant experts change the experts' order; set routing.redundant_experts=0");
  require(!line.has("bias-svg") || loaded.scenario.routing.bias.steps > 0,
          "--bias-svg: no bias rule runs; give it --steps");
  const RoutingAnswer answer{.scenario = loaded.scenario,
                             .study = study_routing(loaded.scenario, request.study),
                             .mode = request.study.mode};
  progress.finish();
  require(!line.has("bias-svg") || !answer.study.bias.empty(),
          "--bias-svg: no bias rule runs where routing is balanced");
  if (line.has("svg")) {
    write_file(line.text("svg"), heat_map_svg(answer, request.rows, request.columns));
  }
  if (line.has("bias-svg")) write_file(line.text("bias-svg"), bias_svg(answer));
  if (line.has("record")) {
    write_file(line.text("record"), record_of(answer.study.loads));
  }
  if (line.talks()) fmt::print("{}", routing_text(answer));
  line.write_json(document_of(line, loaded, request, routing_json(answer)));
}

int run_routing(const std::vector<std::string>& arguments) {
  CommandLine line("routing SCENARIO.yaml [options]",
                   "Studies how tokens spread over the experts: loads of experts, GPUs and nodes, "
                   "what all-to-alls carry, and what it does to the training step.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  Request request = request_of(line);
  std::vector<std::string> sets = line.sets();
  if (line.has("steps")) {
    sets.push_back(fmt::format("routing.bias.steps={}", positive(line, "steps")));
  }
  const LoadedScenario loaded = load_scenario(line.text("scenario"), sets);
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }
  ProgressBar progress(!line.quiet());
  request.study.progress = [&progress](std::string_view stage, double fraction) {
    progress.update(stage, fraction);
  };
  (line.has("zipf-curve") ? study_curve : study_one)(line, loaded, request, progress);
  return 0;
}

const Register<Command> kEntry{"routing",
                               {run_routing, "study expert load, balance and all-to-all volume"}};

}  // namespace

}  // namespace pipecast
